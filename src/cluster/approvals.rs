//! People's answers to one incident: bounded, whoever writes how many and how large. Controller and executor read them here.

use kube::{Api, Client, Resource as _, api::ListParams};

use super::{Lean, Undecodable, page_of};
use crate::{
    api::v1alpha1::Approval,
    core::{approvals::MAX_ANSWERS, kube_name},
};

/// Approvals in one page, each of which may be as large as the API server takes: about 1.5 MB.
const PAGE: u32 = 10;
/// Approvals of a namespace that are looked through where the API server cannot choose those of an incident.
const LOOKED_THROUGH: usize = 1000;

/// What people answered, as far as it can be read.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Approvals of the incident.
    pub readable: Vec<Approval>,
    /// Those that cannot be decoded: each may be a no.
    pub undecodable: Vec<Undecodable>,
    /// There are more than are read.
    pub too_many: bool,
}

/// Reads the Approvals of an incident, by quorum.
///
/// # Errors
///
/// What the API server says.
pub async fn of_incident(client: &Client, namespace: &str, incident: &str) -> kube::Result<Answers> {
    // It becomes part of a selector, and whoever claims to be an incident must not choose there.
    if !kube_name::is_subdomain(incident) {
        return Ok(Answers::default());
    }
    let api: Api<Lean<Approval>> = Api::namespaced(client.clone(), namespace);
    let chosen = ListParams::default().fields(&format!("spec.incident={incident}"));
    match read(&api, chosen, incident, MAX_ANSWERS).await {
        // Kubernetes before 1.31 knows no fields of custom resources.
        Err(kube::Error::Api(status)) if status.code == 400 => {
            read(&api, ListParams::default(), incident, LOOKED_THROUGH).await
        }
        answers => answers,
    }
}

async fn read(api: &Api<Lean<Approval>>, params: ListParams, incident: &str, most: usize) -> kube::Result<Answers> {
    let mut answers = Answers::default();
    let (mut after, mut seen) = (None::<String>, 0);
    loop {
        let page = page_of(api, params.clone().limit(PAGE), after.as_deref()).await?;
        seen += page.items.len();
        for item in page.items {
            match item {
                Ok(approval) if approval.spec.incident == incident => answers.readable.push(approval),
                Ok(_) => {}
                Err(object) => answers.undecodable.push(object),
            }
        }
        after = page.next;
        let held = answers.readable.len() + answers.undecodable.len();
        answers.too_many = held > MAX_ANSWERS || seen > most || (seen == most && after.is_some());
        if after.is_none() || answers.too_many {
            return Ok(answers);
        }
    }
}

impl Answers {
    /// Who says no because of what cannot be read, as a part of a sentence: nobody knows that it is no no.
    pub fn unread(&self, namespace: &str, incident: &str) -> Vec<String> {
        let each = self.undecodable.iter().map(|object| {
            format!(
                "Approval {namespace}/{}, which cannot be read and so counts as a no ({}),",
                object.name, object.error
            )
        });
        let rest = self.too_many.then(|| {
            format!(
                "one of more than {MAX_ANSWERS} Approvals, which are not all read and so count as a no (delete some: \
                 kubectl -n {namespace} delete {}.backstop.dev --field-selector spec.incident={incident}),",
                Approval::plural(&())
            )
        });
        each.chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::testing::{Asked, Reply, client, failure};

    fn approval(name: &str, incident: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "shop", "annotations": {"filler": "x".repeat(1000)}},
            "spec": {"approver": "ann", "incident": incident, "digest": "d".repeat(64), "expiresAt": "2030-01-01T00:00:00Z"}})
    }

    /// An API server with these Approvals, which pages as it is asked to, and chooses by field where it can.
    fn serve(all: Vec<Value>, chooses: bool) -> impl Fn(&Asked) -> Reply {
        move |asked| {
            let query: Vec<(&str, &str)> = asked.query.split('&').filter_map(|part| part.split_once('=')).collect();
            let of =
                |key: &str| query.iter().find(|(name, _)| *name == key).map(|(_, value)| value.replace("%3D", "="));
            let wanted = of("fieldSelector");
            if wanted.is_some() && !chooses {
                return failure(400, "BadRequest");
            }
            let wanted = wanted.map(|it| it.trim_start_matches("spec.incident=").to_owned());
            let fits = |it: &&Value| wanted.as_deref().is_none_or(|name| it["spec"]["incident"] == name);
            let chosen: Vec<&Value> = all.iter().filter(fits).collect();
            let limit: usize = of("limit").unwrap().parse().unwrap();
            assert!(limit <= 10, "a page of {limit} may have {limit} times 1.5 MB");
            let start: usize = of("continue").map_or(0, |it| it.parse().unwrap());
            let end = (start + limit).min(chosen.len());
            let next = if end < chosen.len() { end.to_string() } else { String::new() };
            Reply::Json(200, json!({"metadata": {"continue": next}, "items": &chosen[start..end]}))
        }
    }

    async fn answers(all: Vec<Value>, chooses: bool) -> Answers {
        let (client, _) = client(serve(all, chooses));
        of_incident(&client, "shop", "api-1").await.unwrap()
    }

    #[tokio::test]
    async fn the_answers_to_an_incident_are_found_behind_a_thousand_to_others() {
        let mut all: Vec<Value> = (0..1200).map(|n| approval(&format!("a{n}"), "other")).collect();
        all.push(approval("z", "api-1"));
        let found = answers(all, true).await;
        assert_eq!((found.readable.len(), found.too_many), (1, false));
        assert_eq!(found.readable[0].metadata.annotations, Some(Default::default()), "metadata of others is not kept");
    }

    #[tokio::test]
    async fn one_that_cannot_be_decoded_counts_as_a_no_by_its_name_and_hides_no_other() {
        let mut bad = approval("b", "api-1");
        bad["spec"]["answer"] = json!("Perhaps");
        let found = answers(vec![approval("a", "api-1"), bad, approval("c", "api-1")], true).await;
        assert_eq!((found.readable.len(), found.too_many), (2, false));
        let unread = found.unread("shop", "api-1");
        assert!(
            unread.len() == 1 && unread[0].contains("Approval shop/b") && unread[0].contains("Perhaps"),
            "{unread:?}"
        );
    }

    #[tokio::test]
    async fn more_than_are_read_count_as_a_no_that_says_what_to_do_and_are_not_all_read() {
        for (count, more) in [(MAX_ANSWERS, false), (MAX_ANSWERS + 1, true), (MAX_ANSWERS * 20, true)] {
            let all = (0..count).map(|n| approval(&format!("a{n}"), "api-1")).collect();
            let (client, log) = client(serve(all, true));
            let found = of_incident(&client, "shop", "api-1").await.unwrap();
            assert_eq!(found.too_many, more, "{count}");
            assert!(log.lock().unwrap().len() <= MAX_ANSWERS / 10 + 1, "{count}");
            let unread = found.unread("shop", "api-1").concat();
            assert_eq!(unread.contains("delete approvals.backstop.dev --field-selector spec.incident=api-1"), more);
        }
    }

    #[tokio::test]
    async fn where_the_api_server_cannot_choose_the_namespace_is_looked_through_within_a_bound() {
        let others = |count: usize| (0..count).map(|n| approval(&format!("a{n}"), "other"));
        let found = answers(others(500).chain([approval("z", "api-1")]).collect(), false).await;
        assert_eq!((found.readable.len(), found.too_many), (1, false));
        let found = answers(others(LOOKED_THROUGH).chain([approval("z", "api-1")]).collect(), false).await;
        assert!(found.too_many, "what was not looked at may be a no");
    }

    #[tokio::test]
    async fn who_claims_to_be_an_incident_chooses_nothing_else() {
        let (client, log) = client(serve(vec![], true));
        let found = of_incident(&client, "shop", "api-1,metadata.name!=no").await.unwrap();
        assert!(found.readable.is_empty() && log.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn an_error_is_no_answer() {
        for code in [403, 404, 500] {
            let (client, _) = client(move |_| failure(code, "Forbidden"));
            assert!(of_incident(&client, "shop", "api-1").await.is_err(), "{code}");
        }
    }
}
