//! The shipped observer, planner, actor, reconciler, work queue and lease on simulated servers in virtual time. One seed
//! decides time, order, delays and faults; a ledger of the servers' own records judges every step.
//!
//! `SEEDS=a..b` chooses the seeds, `TRACE=1` prints what happened, `THREADS=n` says how many run at a time,
//! `FIRST=1` ends at the first that fails.

mod chance;
mod executor;
mod faults;
mod goal;
#[path = "../road/kubernetes.rs"]
mod kubernetes;
mod ledger;
mod mending;
mod owner;
mod scenarios;
mod schedule;
mod setup;
mod story;
mod wire;
mod workload;
mod world;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use faults::{Cut, MOMENTS};
use scenarios::SCENARIOS;
use schedule::{Outcome, run, run_cut};

/// `make simulate` runs all that is owed, optimized; else a few of each show that nothing is broken.
fn whole() -> bool {
    std::env::var_os("WHOLE").is_some()
}

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("SEEDS") else { return 0..10_000 };
    let (first, end) = text.split_once("..").expect("SEEDS=first..end");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// What many schedules came to.
#[derive(Default)]
struct Sum {
    schedules: u64,
    simulated: f64,
    steps: u64,
    counts: BTreeMap<String, u64>,
    failed: Vec<(u64, String)>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.schedules += 1;
        self.simulated += outcome.simulated.as_secs_f64();
        self.steps += outcome.steps;
        for (what, count) in outcome.counts {
            *self.counts.entry(what).or_default() += count;
        }
        if let Some(violation) = outcome.violation {
            println!("seed {}: {violation}\n{}", outcome.seed, command(outcome.seed));
            self.failed.push((outcome.seed, violation));
        }
    }
}

fn command(seed: u64) -> String {
    format!("  make simulate SEEDS={seed}..{} TRACE=1", seed + 1)
}

fn threads() -> usize {
    std::env::var("THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

fn run_all(seeds: Range<u64>) -> Sum {
    let traced = std::env::var("TRACE").is_ok();
    let most = if std::env::var_os("FIRST").is_some() { 0 } else { 20 };
    let (next, sum) = (AtomicU64::new(seeds.start), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || sum.lock().expect("not poisoned").failed.len() > most {
                        return;
                    }
                    let outcome = run(seed, traced);
                    outcome.trace.iter().for_each(|line| println!("{line}"));
                    sum.lock().expect("not poisoned").add(outcome);
                }
            });
        }
    });
    sum.into_inner().expect("not poisoned")
}

#[test]
fn every_schedule_keeps_every_invariant_and_comes_to_rest() {
    let (seeds, start) = (seeds(), Instant::now());
    let sum = run_all(seeds.clone());
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "seeds {}..{}: {} schedules, {} steps, {:.2} simulated years, {:.0} schedules per second",
        seeds.start,
        seeds.end,
        sum.schedules,
        sum.steps,
        sum.simulated / (365.0 * 86_400.0),
        sum.schedules as f64 / seconds
    );
    for (what, count) in &sum.counts {
        println!("{count:>10} {what}");
    }
    assert!(sum.failed.is_empty(), "{} seeds failed, first {:?}", sum.failed.len(), sum.failed.first());
}

#[test]
fn a_seed_has_the_same_trace_every_time() {
    for seed in 0..if whole() { 100 } else { 5 } {
        let (one, other) = (run(seed, true), run(seed, true));
        assert!(one.trace.len() > 50, "seed {seed} has a trace");
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

/// Runs these crash points side by side, each with the number of its scenario. Returns how many calls followed the
/// last cut of each, and what failed.
fn run_cuts(runs: &[(usize, Vec<Cut>)]) -> (Vec<usize>, Vec<String>) {
    let (next, done) = (AtomicU64::new(0), Mutex::new((vec![0; runs.len()], Vec::new())));
    std::thread::scope(|scope| {
        for _ in 0..threads() {
            scope.spawn(|| {
                loop {
                    let at = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("an index");
                    let Some((scenario, cuts)) = runs.get(at) else { return };
                    let scenario = &SCENARIOS[*scenario];
                    let (outcome, calls) = run_cut(scenario, cuts, false);
                    let mut done = done.lock().expect("not poisoned");
                    done.0[at] = calls;
                    if let Some(violation) = outcome.violation {
                        let text = format!("\"{}\" cut at {cuts:?}: {violation}", scenario.name);
                        println!("{text}");
                        done.1.push(text);
                    }
                }
            });
        }
    });
    done.into_inner().expect("not poisoned")
}

fn cuts(calls: usize) -> impl Iterator<Item = Cut> {
    (0..calls).flat_map(|call| MOMENTS.map(|moment| Cut { call, moment }))
}

/// Some of them, evenly; all where the whole is asked for.
fn some<T>(of: Vec<T>, most: usize) -> impl Iterator<Item = T> {
    let every = of.len().div_ceil(most).max(1);
    of.into_iter().step_by(every)
}

#[test]
fn a_process_killed_at_any_call_of_any_scenario_leaves_nothing_wrong() {
    let (mut all, mut runs) = (0, Vec::new());
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let (outcome, calls) = run_cut(scenario, &[], false);
        assert_eq!(outcome.violation, None, "\"{}\" without a cut", scenario.name);
        let points: Vec<_> = cuts(calls).map(|cut| (number, vec![cut])).collect();
        println!("{:>6} crash points: {}", points.len(), scenario.name);
        all += points.len();
        runs.extend(some(points, if whole() { usize::MAX } else { 1 }));
    }
    println!("{all:>6} crash points in {} scenarios, {} are run", SCENARIOS.len(), runs.len());
    assert_eq!(run_cuts(&runs).1, Vec::<String>::new());
}

/// `PAIRS=all` runs every ordered pair of the core scenarios, `PAIRS=swapped` those of scenarios with that in their name.
#[test]
fn a_process_killed_twice_leaves_nothing_wrong() {
    let wanted = std::env::var("PAIRS").ok();
    let most = match wanted {
        Some(_) => usize::MAX,
        None if whole() => 200,
        None => 1,
    };
    let part = wanted.filter(|part| part != "all").unwrap_or_default();
    let core =
        SCENARIOS.iter().enumerate().filter(|(_, scenario)| scenario.core && scenario.name.contains(&part));
    let (mut all, mut run) = (0, 0);
    for (number, scenario) in core {
        let (_, calls) = run_cut(scenario, &[], false);
        let firsts: Vec<_> = some(cuts(calls).collect(), most).map(|cut| (number, vec![cut])).collect();
        let (calls, failed) = run_cuts(&firsts);
        assert_eq!(failed, Vec::<String>::new());
        let pairs = firsts.iter().zip(calls).flat_map(|((_, first), calls)| {
            cuts(calls).map(|second| (number, [first.as_slice(), &[second]].concat()))
        });
        let pairs: Vec<_> = pairs.collect();
        all += pairs.len();
        let chosen: Vec<_> = some(pairs, most).collect();
        run += chosen.len();
        println!("{:>6} pairs are run: {}", chosen.len(), scenario.name);
        assert_eq!(run_cuts(&chosen).1, Vec::<String>::new());
    }
    println!("{all:>6} ordered pairs seen, {run} are run");
}
