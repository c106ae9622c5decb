//! Telling people: one file per channel, and the one place that lists them. Each channel is tried by itself, and each
//! attempt is recorded as a [`Delivery`]: an escalation that did not arrive must show.

mod channel;
mod event;
mod fit;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod tests;
mod webhook;

use std::sync::{Mutex, MutexGuard, PoisonError};

use kube::Client;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

pub use channel::{Channel, ChannelName, Message, Notification};
pub use event::Note;

use crate::{
    api::v1alpha1::{Delivery, Severity},
    clock,
    core::{
        incident::severity_word,
        places::{Lane, Places},
    },
    settings::Settings,
};

/// Slow deliveries at one time: fewer than incidents that are worked on. The last is for what is critical.
const SLOW: usize = 4;

/// A place among the slow deliveries, until it is dropped.
struct Ticket<'a> {
    places: &'a Mutex<Places>,
    namespace: &'a str,
    lane: Lane,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(self.places).give(self.namespace, self.lane);
    }
}

fn lock(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The channels of this process. Made once: Events of one kind are folded into a series by it.
pub struct Notifier {
    channels: Vec<Box<dyn Channel>>,
    /// Writes Events that are about no incident; `None` in tests of a single channel.
    events: Option<event::Events>,
    sent: Family<ChannelOutcome, Counter>,
    slow: Mutex<Places>,
}

/// How a notification went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// One entry per channel that wants it, earlier deliveries included.
    pub deliveries: Vec<Delivery>,
    /// A slow channel was not tried, because other slow deliveries came first: call again in some seconds.
    pub waiting: bool,
}

impl Told {
    /// Every channel that wants it has it.
    pub fn arrived(&self) -> bool {
        self.deliveries.iter().all(|delivery| delivery.delivered)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChannelOutcome {
    channel: &'static str,
    outcome: &'static str,
}

/// The channel of this name; `None` when the settings leave it out. Whoever adds one is asked here by the compiler.
fn channel(
    name: ChannelName,
    client: &Client,
    instance: &str,
    settings: &Settings,
) -> anyhow::Result<Option<Box<dyn Channel>>> {
    Ok(match name {
        ChannelName::Event => Some(Box::new(event::Events::new(client.clone(), instance))),
        ChannelName::Webhook => match webhook::Webhook::new(&settings.escalation_webhook)? {
            Some(webhook) => Some(Box::new(webhook)),
            None => None,
        },
        #[cfg(test)]
        ChannelName::Planted => Some(Box::new(planted::Planted)),
    })
}

impl Notifier {
    /// With every channel that the settings name. Events are written in the name of `instance` (the pod).
    pub fn new(
        client: &Client,
        instance: &str,
        settings: &Settings,
        registry: &mut Registry,
    ) -> anyhow::Result<Notifier> {
        let channels = ChannelName::ALL.iter().map(|name| channel(*name, client, instance, settings));
        let channels: anyhow::Result<Vec<_>> = channels.filter_map(Result::transpose).collect();
        let mut notifier = Notifier::with(channels?);
        notifier.events = Some(event::Events::new(client.clone(), instance));
        if settings.escalation_webhook.url.is_empty() {
            tracing::warn!(
                "no escalationWebhook is set: the on-call is told by Events alone, which a cluster keeps for an hour"
            );
        }
        registry.register("backstop_notifications", "Notifications by channel and outcome", notifier.sent.clone());
        Ok(notifier)
    }

    fn with(channels: Vec<Box<dyn Channel>>) -> Notifier {
        Notifier { channels, events: None, sent: Family::default(), slow: Mutex::new(Places::new(SLOW)) }
    }

    /// Tells people by all channels at once, except those by which `earlier` says that it arrived, and adds the
    /// attempts of the others to theirs. Takes up to half a minute when a receiver does not answer: call it beside
    /// the other work, not in its way.
    pub async fn deliver(&self, notification: &Notification, earlier: &[Delivery]) -> Told {
        let wanted = self.channels.iter().filter(|channel| channel.wants(notification));
        let tried = futures::future::join_all(wanted.map(|channel| self.one(channel.as_ref(), notification, earlier)));
        let mut told = Told::default();
        for (delivery, waiting) in tried.await {
            told.waiting |= waiting;
            told.deliveries.push(delivery);
        }
        // Of a channel that the settings do not name any more: what arrived, arrived.
        let gone = earlier.iter().filter(|old| old.delivered);
        let gone = gone.filter(|old| !told.deliveries.iter().any(|new| new.channel == old.channel)).cloned();
        let gone: Vec<Delivery> = gone.collect();
        told.deliveries.extend(gone);
        told
    }

    /// Writes an Event that is about no incident, and tries no second time: it is news, and not what people rely on.
    pub async fn note(&self, note: Note, reason: &str) {
        let Some(events) = &self.events else { return };
        let on = note.regarding.name.clone().unwrap_or_default();
        if let Err(error) = events.write(note, reason).await {
            tracing::warn!(%error, reason, on, "an Event could not be written");
        }
    }

    /// One channel, and whether it has to wait for its turn.
    async fn one(&self, channel: &dyn Channel, notification: &Notification, earlier: &[Delivery]) -> (Delivery, bool) {
        let name = channel.name().as_str();
        let before = earlier.iter().find(|delivery| delivery.channel == name).cloned().unwrap_or_default();
        if before.delivered {
            return (before, false);
        }
        let place = if channel.is_slow() { self.place(notification) } else { None };
        if channel.is_slow() && place.is_none() {
            let detail = "waits until other deliveries have ended".into();
            return (Delivery { channel: name.into(), detail, ..before }, true);
        }
        let mut delivery = channel.deliver(notification).await;
        delivery.channel = name.into();
        delivery.attempts = delivery.attempts.saturating_add(before.attempts);
        let outcome = if delivery.delivered { "delivered" } else { "failed" };
        self.sent.get_or_create(&ChannelOutcome { channel: name, outcome }).inc();
        (delivery, false)
    }

    /// A place among the slow deliveries, if it is the turn of this notification. Nobody waits for one here: whoever did would
    /// hold a worker that others need.
    fn place<'a>(&'a self, notification: &'a Notification) -> Option<Ticket<'a>> {
        let Message { namespace, severity, .. } = notification.message();
        let critical = severity == severity_word(Severity::Critical);
        let lane = lock(&self.slow).take(namespace, critical, clock::now())?;
        Some(Ticket { places: &self.slow, namespace, lane })
    }
}
