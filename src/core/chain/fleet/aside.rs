//! What is not asked for a while, and for whom.

use std::time::Duration;

use super::super::breaker::Tenant;
use super::super::decision::SetAside;
use super::super::failure::Class;
use super::super::moment::Moment;
use super::{Fleet, Member, Transition, What};

/// Tenants for whom alone one upstream is set aside, at most: who is beyond is asked for as before.
pub const MAX_TENANTS: usize = 256;

impl Fleet {
    pub(super) fn set_aside(
        &mut self,
        at: usize,
        set_aside: SetAside,
        class: Class,
        tenant: Option<Tenant>,
        now: Moment,
    ) -> Vec<Transition> {
        let Some(member) = self.members.get_mut(at) else { return vec![] };
        let (name, quota) = (member.name.clone(), member.quota);
        let cooling = |lasts, quota| Transition {
            upstream: name.clone(),
            tenant: None,
            what: What::CoolingDown { lasts, class, quota },
        };
        match set_aside {
            SetAside::Nothing => vec![],
            SetAside::Upstream(lasts) => {
                cool(&mut member.aside, lasts, now).then(|| cooling(lasts, None)).into_iter().collect()
            }
            SetAside::Asker(lasts) => {
                let Some(tenant) = tenant else {
                    let begins = cool(&mut member.aside, lasts, now);
                    return begins.then(|| cooling(lasts, None)).into_iter().collect();
                };
                member.aside_for.retain(|_, until| now < *until);
                if member.aside_for.len() >= MAX_TENANTS && !member.aside_for.contains_key(&tenant) {
                    return vec![];
                }
                let mut until = member.aside_for.remove(&tenant);
                let begins = cool(&mut until, lasts, now);
                member.aside_for.extend(until.map(|until| (tenant.clone(), until)));
                begins.then(|| Transition { tenant: Some(tenant), ..cooling(lasts, None) }).into_iter().collect()
            }
            SetAside::Quota(lasts) => {
                let Some(quota) = self.quotas.get_mut(quota) else { return vec![] };
                let scope = quota.scope.clone();
                cool(&mut quota.until, lasts, now).then(|| cooling(lasts, Some(scope))).into_iter().collect()
            }
            SetAside::Quarantine => member.quarantine(class, now).into_iter().collect(),
            SetAside::QuarantineCredentials => {
                let credentials = member.upstream.credentials.clone();
                let own = member.id;
                let shares = |member: &&mut Member| {
                    member.id == own || (credentials.is_some() && member.upstream.credentials == credentials)
                };
                self.members.iter_mut().filter(shares).filter_map(|member| member.quarantine(class, now)).collect()
            }
        }
    }

    /// The files with the credentials of the Secret `name` changed: what is in quarantine because of them, or waits for
    /// them, is asked again.
    pub fn credentials_changed(&mut self, name: &str) -> Vec<Transition> {
        let uses = |member: &&mut Member| member.upstream.credentials.as_ref().is_some_and(|own| own.secret == name);
        self.members
            .iter_mut()
            .filter(uses)
            .filter_map(|member| {
                if member.last_error.is_some_and(|(class, _)| class == Class::CredentialsRefused) {
                    member.aside = None;
                    member.aside_for.clear();
                }
                member.release(false)
            })
            .collect()
    }
}

/// Cools down until then, or as long as before if that is longer. Whether it begins with it.
fn cool(until: &mut Option<Moment>, lasts: Duration, now: Moment) -> bool {
    let begins = until.is_none_or(|until| until <= now) && !lasts.is_zero();
    *until = (*until).max(Some(now.after(lasts)));
    begins
}
