//! The cluster suite: a real cluster, the chart installed once, things that really break, and the API server's audit
//! log as the judge. `make test-cluster` runs it.
//!
//! Each test has a namespace of its own. Those in `TOGETHER` run a few at a time; those in `ALONE` disturb the operator
//! and run one by one after them. Words on the command line choose tests by a part of their name.

mod conformance;
mod enrolment;
mod faults;
mod followups;
mod hallucinate;
mod intake;
mod interruptions;
mod kinds;
mod limits;
mod measure;
mod operations;
mod policies;
mod recovery;
mod refusals;
mod restarts;
mod retention;
mod support;
mod surroundings;
mod tenants;
mod thefts;
mod unstarted;

use std::{
    path::PathBuf,
    process::ExitCode,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Parser;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};

use support::{
    Place, Suite,
    bench::{Bench, beside},
    memory::Memory,
    record::Recorder,
};

/// A test that is not over by then hangs: each of its waits ends before, with a sentence.
const TIMEOUT: Duration = Duration::from_secs(3600);

#[derive(Parser)]
struct Args {
    /// Run only the tests whose name contains one of these.
    names: Vec<String>,
    /// How many tests run at a time.
    #[arg(long, default_value_t = 8)]
    threads: usize,
    /// Run every N-th test only, beginning with the I-th, as I/N: the rest runs on other clusters meanwhile.
    #[arg(long, default_value = "1/1")]
    shard: Shard,
    /// Leave operator and namespaces where they are.
    #[arg(long)]
    keep: bool,
    /// Print the names of the tests.
    #[arg(long)]
    list: bool,
    /// Keep what the investigator saw in this folder, for `make eval-diagnosis`, and play more everyday faults for it. Of
    /// the tests that disturb the operator nothing is kept.
    #[arg(long)]
    record: Option<PathBuf>,
    /// Measure instead of testing.
    #[arg(long)]
    measure: bool,
    #[command(flatten)]
    amount: measure::Amount,
    /// Measure the controller's memory among many ended Incidents and Alerts.
    #[arg(long)]
    measure_retention: bool,
    #[command(flatten)]
    kept: retention::Kept,
    /// Count what many enrolled namespaces cost the API server while nothing happens.
    #[arg(long)]
    measure_enrolment: bool,
    #[command(flatten)]
    crowd: enrolment::Crowd,
    #[command(flatten)]
    wrong: hallucinate::Played,
    #[command(flatten)]
    place: Place,
}

/// Which part of the tests it is.
#[derive(Clone, Copy)]
struct Shard {
    /// From 1.
    part: usize,
    parts: usize,
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Shard> {
        let (part, parts) = text.split_once('/').context("expected I/N")?;
        let (part, parts) = (part.parse()?, parts.parse()?);
        ensure!((1..=parts).contains(&part), "expected I/N with I from 1 to N");
        Ok(Shard { part, parts })
    }
}

impl Shard {
    /// Whether the test at this place of a list is in it.
    fn has(self, place: usize) -> bool {
        place % self.parts + 1 == self.part
    }
}

/// A test: its name is its sentence.
struct Test {
    name: &'static str,
    run: fn(Bench) -> BoxFuture<'static, Result<()>>,
}

macro_rules! tests {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Test { name: concat!(stringify!($module), "::", stringify!($name)), run: |bench| $module::$name(bench).boxed() }),*]
    };
}

const TOGETHER: &[Test] = tests![
    refusals::a_healthy_object_is_left_alone,
    refusals::in_observe_mode_nothing_is_written,
    recovery::a_crash_loop_after_a_rollout_is_rolled_back,
    recovery::an_image_that_cannot_be_pulled_is_rolled_back,
    recovery::a_failing_probe_is_rolled_back,
    recovery::a_missing_config_map_is_rolled_back,
    recovery::an_outage_of_all_pods_is_rolled_back,
    recovery::a_release_that_no_node_takes_is_rolled_back,
    recovery::a_release_with_more_processors_than_a_node_has_is_rolled_back,
    recovery::a_release_with_a_device_that_no_node_has_is_rolled_back,
    recovery::a_release_whose_node_affinity_no_node_fits_is_rolled_back,
    recovery::a_release_that_wants_to_be_far_from_itself_is_rolled_back,
    recovery::a_release_with_a_claim_that_nobody_made_is_rolled_back,
    recovery::a_release_with_a_secret_that_nobody_made_is_rolled_back,
    recovery::a_release_for_a_scheduler_that_does_not_run_is_rolled_back,
    recovery::a_release_that_passes_its_progress_deadline_is_rolled_back,
    recovery::a_release_that_a_quota_refuses_is_rolled_back,
    recovery::a_release_that_a_policy_of_the_cluster_refuses_is_rolled_back,
    recovery::a_release_that_a_limit_range_refuses_is_rolled_back,
    unstarted::a_release_for_a_pool_with_a_taint_is_rolled_back,
    unstarted::a_release_that_meets_a_webhook_that_nobody_serves_is_handed_over,
    recovery::a_release_that_pod_security_refuses_is_rolled_back,
    recovery::a_release_whose_volume_cannot_be_mounted_is_rolled_back,
    recovery::a_release_whose_init_container_does_not_end_is_rolled_back,
    recovery::a_command_that_is_not_in_the_image_is_rolled_back,
    recovery::a_liveness_probe_that_ends_containers_late_is_rolled_back,
    recovery::a_pod_that_is_gone_leads_to_what_made_it,
    recovery::an_object_whose_resource_version_changes_all_the_time_is_rolled_back,
    recovery::the_same_alert_five_hundred_times_is_one_incident_and_one_fire,
    recovery::alerts_about_a_pod_and_its_deployment_are_one_incident,
    recovery::an_alert_that_a_person_applies_is_worked_on_like_any_other,
    recovery::in_approve_mode_nothing_is_written_until_a_person_approves_the_exact_action,
    recovery::a_repair_that_somebody_reverts_while_it_is_watched_is_told,
    recovery::a_second_bad_release_inside_the_cooldown_is_handed_over,
    recovery::an_absent_prometheus_is_a_fact_and_no_obstacle,
    refusals::a_first_release_has_nothing_to_return_to,
    refusals::what_argo_cd_owns_is_left_to_it,
    refusals::an_owner_that_is_no_controller_owns_it_all_the_same,
    refusals::the_target_of_a_canary_is_left_to_it,
    refusals::what_helm_installed_is_left_to_it_unless_a_policy_allows_it,
    refusals::a_config_map_edited_in_place_is_not_rolled_back,
    refusals::a_secret_that_both_revisions_need_is_not_rolled_back,
    refusals::a_checksum_of_configuration_alone_is_not_rolled_back,
    refusals::a_rollout_that_somebody_paused_and_edited_is_left_to_them_at_once,
    refusals::an_object_that_does_not_exist_is_handed_over,
    refusals::an_object_that_people_protect_is_not_touched,
    refusals::a_policy_that_forbids_the_action_is_obeyed,
    policies::a_policy_that_does_not_compile_says_where_and_denies,
    policies::an_exception_lets_through_what_its_policy_denies,
    policies::a_limit_of_a_policy_refuses,
    policies::where_two_people_have_to_approve_one_is_not_enough,
    policies::one_no_ends_it,
    refusals::an_alert_that_ends_and_fires_again_is_another_incident,
    refusals::an_alert_in_a_tenants_namespace_may_only_name_that_namespace,
    refusals::labels_that_inject_paths_reach_nothing,
    refusals::bad_requests_get_a_helpful_answer_and_leave_nothing,
    kinds::a_stateful_set_is_rolled_back_and_its_stuck_pod_evicted,
    kinds::a_stateful_set_whose_image_cannot_be_pulled_is_rolled_back,
    kinds::a_parallel_stateful_set_is_rolled_back,
    kinds::a_stateful_set_with_a_partition_is_rolled_back_where_the_release_is,
    kinds::a_stuck_pod_that_a_disruption_budget_protects_is_not_evicted,
    kinds::a_stateful_set_with_on_delete_is_handed_over,
    kinds::a_daemon_set_with_on_delete_is_handed_over,
    kinds::a_daemon_set_is_rolled_back,
    kinds::a_daemon_set_whose_image_cannot_be_pulled_is_rolled_back,
    kinds::a_stateful_set_whose_pods_are_refused_is_rolled_back,
    kinds::a_daemon_set_whose_pods_are_refused_is_rolled_back,
    kinds::a_job_is_a_kind_that_is_handed_over,
    kinds::a_cron_job_is_a_kind_that_is_handed_over,
    kinds::a_pod_that_nobody_owns_is_a_kind_that_is_handed_over,
    kinds::a_replica_set_that_nobody_owns_is_a_kind_that_is_handed_over,
    kinds::a_pod_of_a_custom_kind_is_handed_over,
    kinds::what_is_no_workload_cannot_be_named,
    restarts::old_processes_that_hold_on_to_a_former_address_are_restarted,
    restarts::configuration_that_no_pod_has_proved_is_not_restarted_into,
    restarts::a_dependency_that_is_still_away_is_not_restarted_for,
    intake::what_a_namespace_refuses_is_kept_in_the_system_namespace_and_ends_there,
    tenants::a_policy_that_would_take_gigabytes_denies_by_its_name,
    intake::a_long_request_with_an_alert_that_cannot_be_read_is_taken,
    operations::every_role_serves_health_and_metrics,
];

const ALONE: &[Test] = tests![
    interruptions::kill_the_executor_when_it_has_claimed,
    interruptions::kill_the_executor_when_the_grant_is_open,
    interruptions::kill_the_executor_when_the_revision_is_marked,
    interruptions::kill_the_executor_when_the_object_is_armed,
    interruptions::kill_the_executor_before_it_fires,
    interruptions::kill_the_executor_when_it_has_fired,
    interruptions::kill_the_executor_when_it_has_read_back,
    interruptions::kill_the_controller_when_the_plan_is_written,
    interruptions::kill_the_controller_when_the_remediation_is_written,
    interruptions::kill_the_controller_when_the_grant_is_open,
    interruptions::kill_the_controller_when_the_executor_has_fired,
    interruptions::kill_the_investigator_when_it_has_gathered,
    interruptions::the_kill_switch_in_the_middle_stops_the_write,
    interruptions::people_write_freely_while_an_object_is_armed,
    interruptions::a_persons_fix_in_the_middle_stays,
    interruptions::the_api_server_restarts_in_between,
    refusals::an_annotation_that_a_person_sets_is_not_reported_as_a_write,
    interruptions::an_upgrade_in_the_middle_loses_nothing_and_writes_nothing_twice,
    operations::an_enrolled_namespace_that_is_not_there_hinders_no_other,
    thefts::a_stolen_investigator_cannot_choose_the_revision,
    thefts::a_stolen_investigator_cannot_have_a_healthy_workload_rolled_back,
    thefts::a_stolen_controller_cannot_have_a_healthy_workload_rolled_back,
    thefts::a_stolen_controller_cannot_choose_the_revision,
    thefts::a_stolen_controller_cannot_do_without_the_approval,
    thefts::a_stolen_controller_and_investigator_cannot_have_a_healthy_workload_rolled_back,
    thefts::a_stolen_executor_is_refused_by_the_api_server,
    thefts::a_stolen_executor_and_investigator_are_refused_by_the_api_server,
    thefts::a_stolen_controller_and_executor_reach_a_past_revision_and_nothing_else,
    thefts::a_stolen_controller_and_executor_evict_within_the_disruption_budget,
    followups::a_stolen_controller_cannot_have_a_good_repair_taken_back,
    followups::a_stolen_controller_cannot_have_a_pod_evicted_that_works,
    enrolment::a_namespace_is_enrolled_by_its_label_and_nothing_is_written_without_it,
    conformance::the_api_server_gives_the_verdicts_that_the_executor_is_tested_with,
    tenants::sixty_four_long_requests_at_one_time_are_answered,
    limits::finished_incidents_beyond_the_bound_are_removed_and_open_ones_stay,
    recovery::a_rollback_that_does_not_help_is_left_in_place_and_handed_over,
    limits::a_storm_of_the_cluster_stops_every_write_until_one_trial_succeeds,
    limits::a_person_resets_the_breaker_in_their_own_name_and_repairs_go_on,
    limits::the_same_bad_image_in_three_workloads_is_one_page_and_no_write,
    operations::an_uninstall_in_the_middle_leaves_nothing_armed,
];

/// Everyday faults that are played for their bundles.
const RECORDED: &[Test] = tests![
    faults::a_wrong_argument,
    faults::a_port_that_the_probe_does_not_know,
    faults::a_probe_of_another_port,
    faults::a_startup_probe_that_never_succeeds,
    faults::a_tag_that_was_never_pushed,
    faults::an_image_that_may_not_be_pulled,
    faults::a_key_that_its_config_map_lacks,
    faults::a_secret_that_nobody_created,
    faults::root_where_it_is_forbidden,
    faults::a_volume_claim_that_nobody_created,
    faults::a_service_account_that_nobody_created,
    faults::a_priority_class_that_nobody_created,
    faults::a_request_that_no_node_can_fulfil,
    faults::a_second_container_that_crashes,
    faults::an_init_container_that_fails,
    faults::one_bad_pod_of_four,
    faults::a_third_release_after_two_good_ones,
    faults::two_bad_releases_in_a_row,
    faults::a_stateful_set_whose_config_is_missing,
    faults::a_stateful_set_whose_command_is_missing,
    faults::a_daemon_set_whose_config_is_missing,
    faults::a_daemon_set_that_crashes,
    faults::a_first_release_whose_image_is_missing,
    faults::a_first_release_whose_config_is_missing,
    faults::a_first_release_that_no_node_takes,
    faults::a_first_release_whose_probe_fails,
    faults::a_first_stateful_set_that_crashes,
    faults::healthy_after_scaling,
    faults::healthy_after_a_restart,
    faults::healthy_because_a_person_mended_it,
    faults::healthy_after_a_pod_was_replaced,
    faults::a_healthy_stateful_set,
    faults::a_healthy_daemon_set,
    faults::scaled_to_nothing,
    surroundings::a_config_map_edited_before_any_second_release,
    surroundings::a_config_map_edited_and_then_a_restart,
    surroundings::a_config_map_that_was_deleted,
    surroundings::a_secret_that_was_deleted,
    surroundings::a_secret_edited_in_place,
    surroundings::a_dependency_that_is_down,
    surroundings::a_quota_that_has_no_room_for_a_good_release,
    surroundings::a_quota_that_has_no_room_for_the_pods_that_were_there,
    surroundings::a_label_that_its_node_lost,
    surroundings::a_config_map_edited_after_a_good_release,
    surroundings::a_release_and_a_secret_that_is_gone_for_both,
    surroundings::a_deployment_that_was_deleted,
];

/// How a test went.
struct Report {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = Args::parse();
    if args.list {
        TOGETHER.iter().chain(ALONE).chain(RECORDED).for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }
    let outcome = if args.measure {
        measure::run(&args.place, &args.amount).await
    } else if args.measure_retention {
        retention::run(&args.place, &args.kept).await
    } else if args.measure_enrolment {
        enrolment::run(&args.place, &args.crowd).await
    } else if let Some(incidents) = args.wrong.hallucinate {
        hallucinate::run(&args.place, &args.wrong, incidents).await
    } else {
        run(&args).await
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<bool> {
    let start = Instant::now();
    let wanted =
        |test: &&Test| args.names.is_empty() || args.names.iter().any(|word| test.name.contains(word.as_str()));
    let recorder = args.record.as_deref().map(Recorder::new).transpose()?.map(Arc::new);
    let recorded: &[Test] = if recorder.is_some() { RECORDED } else { &[] };
    let mine = |tests: Vec<&'static Test>| -> Vec<&'static Test> {
        tests.into_iter().enumerate().filter(|(place, _)| args.shard.has(*place)).map(|(_, test)| test).collect()
    };
    let together = mine(TOGETHER.iter().chain(recorded).filter(wanted).collect());
    let alone = mine(ALONE.iter().filter(wanted).collect());
    ensure!(!(together.is_empty() && alone.is_empty()), "no test has a name with {:?}; --list shows all", args.names);

    let run = format!("{:04x}", rand::random::<u16>());
    let all: Vec<&Test> = together.iter().chain(&alone).copied().collect();
    let of_tests = all.iter().map(|test| namespace(test, &run));
    let namespaces: Vec<String> = of_tests.chain(beside(&run)).collect();
    // Nobody listens there: an absent Prometheus hinders nothing.
    let values = serde_json::json!({"prometheusUrl": "http://127.0.0.1:9"});
    let suite = Suite::start(&args.place, &namespaces, &run, values).await?;
    suite.tap().await?;
    println!("set up in {:.0} s; {} tests, {} at a time", start.elapsed().as_secs_f64(), all.len(), args.threads);

    let memory = Memory::watch(&suite).await?;
    let one = |test: &'static Test, recorder: Option<Arc<Recorder>>| {
        check(test, Bench { suite: suite.clone(), ns: namespace(test, &run) }, recorder)
    };
    let kept = |test| one(test, recorder.clone());
    let mut reports: Vec<Report> = stream::iter(together).map(kept).buffer_unordered(args.threads).collect().await;
    for test in alone {
        reports.push(one(test, None).await);
    }
    let unsafe_writes = judge_all(&suite, &namespaces).await;
    if args.keep {
        println!("kept: the operator and {} namespaces *-{run}", namespaces.len());
    } else {
        suite.clean(&namespaces).await?;
    }
    println!();
    memory.print();
    Ok(close(&reports, unsafe_writes, start.elapsed()))
}

/// A namespace says which test it belongs to.
fn namespace(test: &Test, run: &str) -> String {
    let slug: String = test.name.rsplit("::").next().unwrap_or_default().replace('_', "-").chars().take(48).collect();
    format!("t-{}-{run}", slug.trim_matches('-'))
}

async fn check(test: &'static Test, bench: Bench, recorder: Option<Arc<Recorder>>) -> Report {
    let start = Instant::now();
    let running = tokio::spawn((test.run)(bench.clone()));
    let outcome = match tokio::time::timeout(TIMEOUT, running).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Err(anyhow!("it panicked: {panic}")),
        Err(_) => Err(anyhow!("not done within {} s", TIMEOUT.as_secs())),
    };
    let outcome = match (outcome, recorder) {
        (Ok(()), Some(recorder)) => record(test, &bench, &recorder).await,
        (outcome, _) => outcome,
    };
    let took = start.elapsed();
    let failure = outcome.err().map(|error| format!("{error:#}"));
    println!("{} {:5.1} s  {}", if failure.is_none() { "ok    " } else { "FAILED" }, took.as_secs_f64(), test.name);
    if let Some(failure) = &failure {
        println!("{failure}\n{}", bench.told().await);
    }
    Report { name: test.name, took, failure }
}

/// Keeps what was seen. A test that is played for its bundle has to give one.
async fn record(test: &Test, bench: &Bench, recorder: &Recorder) -> Result<()> {
    let kept = recorder.keep(bench, test.name).await?;
    if RECORDED.iter().any(|one| one.name == test.name) {
        recorder.clear(bench).await?;
        ensure!(kept == 1, "{kept} bundles, expected one");
    }
    Ok(())
}

/// Everything that the operator's accounts did in the whole run, in every namespace.
async fn judge_all(suite: &Arc<Suite>, namespaces: &[String]) -> Result<(usize, Vec<String>)> {
    let mut events = suite.events_of_operator(&namespaces[0]).await?;
    let writes = events.iter().filter(|event| event.is_accepted_write()).count();
    // To tell what changed, the writes of others on the same objects are needed too.
    events = suite.audit.events(|event| {
        suite.witness.is_ours(event) || support::witness::WORKLOADS.contains(&event.resource.as_str())
    })?;
    Ok((writes, suite.witness.unsafe_writes(&events)))
}

fn close(reports: &[Report], unsafe_writes: Result<(usize, Vec<String>)>, took: Duration) -> bool {
    let mut failed = reports.iter().filter(|report| report.failure.is_some()).count();
    println!();
    for report in reports.iter().filter(|report| report.failure.is_some()) {
        let first = report.failure.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
        println!("FAILED {} ({:.0} s): {first}", report.name, report.took.as_secs_f64());
    }
    match unsafe_writes {
        Ok((writes, found)) => {
            found.iter().for_each(|write| println!("UNSAFE {write}"));
            println!("unsafe writes: {} of {writes}", found.len());
            failed += usize::from(!found.is_empty());
        }
        Err(error) => {
            println!("FAILED to judge all writes: {error:#}");
            failed += 1;
        }
    }
    println!("took {:.0} s", took.as_secs_f64());
    println!("cluster: {} checked, {failed} failed", reports.len() + 1);
    failed == 0
}
