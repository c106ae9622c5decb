//! A channel of unit tests: all that a new channel needs is a file like this one, its variant of `ChannelName` and its
//! line in the registry.

use futures::future::BoxFuture;

use super::channel::{Channel, ChannelName, Notification};
use crate::api::v1alpha1::Delivery;

/// Says what it was told, and does not pass on requests for Approvals.
pub struct Planted;

impl Channel for Planted {
    fn name(&self) -> ChannelName {
        ChannelName::Planted
    }

    fn wants(&self, notification: &Notification) -> bool {
        !matches!(notification, Notification::ApprovalAsked(_))
    }

    fn deliver<'a>(&'a self, notification: &'a Notification) -> BoxFuture<'a, Delivery> {
        Box::pin(async {
            let detail = format!("{} {}", notification.status(), notification.message().reason);
            Delivery { delivered: true, attempts: 1, detail, ..Delivery::default() }
        })
    }
}
