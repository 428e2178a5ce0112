//! Tries faults on a cluster under load, many times, and tells how long each held up writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use e2e::faults::{FAULTS, Fault, Scene};
use e2e::{Broken, Verdict};
use tokio::runtime::Runtime;

/// Tries faults on a cluster under load, and prints a table: how long writes were held up, what was acknowledged, what was
/// lost. Ends with 1 when a promise was broken.
#[derive(Debug, Parser)]
struct Arguments {
    /// Random ones for so many minutes, instead of all a number of times.
    #[arg(long)]
    minutes: Option<u64>,
    /// How often each is tried.
    #[arg(long, default_value_t = 30)]
    each: usize,
    /// Only faults whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Which random ones; printed at the start.
    #[arg(long)]
    seed: Option<u64>,
}

/// What came of one fault, each time.
struct Account {
    fault: &'static Fault,
    verdicts: Vec<Verdict>,
    /// What was not done in its time, or not as promised.
    broken: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = |fault: &&Fault| {
        arguments.only.is_empty() || arguments.only.iter().any(|part| fault.name.contains(part.as_str()))
    };
    let mut accounts: Vec<Account> = FAULTS.iter().filter(chosen).map(Account::new).collect();
    if accounts.is_empty() {
        eprintln!("--only: no fault has such a name");
        return ExitCode::from(2);
    }
    let runtime = Runtime::new().expect("a runtime");
    let mut scene = None;
    let mut strike = |account: &mut Account| {
        let began = Instant::now();
        scene = account.strike(&runtime, scene.take());
        println!("    {:.0?} in all", began.elapsed());
    };
    match arguments.minutes {
        Some(minutes) => {
            let mut dice = Dice(arguments.seed.unwrap_or_else(moment).max(1));
            println!("--seed {}", dice.0);
            let end = Instant::now() + Duration::from_secs(minutes * 60);
            while Instant::now() < end {
                let count = accounts.len();
                strike(&mut accounts[dice.roll(count)]);
            }
        }
        None => {
            for account in &mut accounts {
                (0..arguments.each).for_each(|_| strike(account));
            }
        }
    }
    drop(scene);
    accounts.retain(|account| !account.verdicts.is_empty() || !account.broken.is_empty());
    println!("\n| fault | times | p50 | p90 | p99 | longest | goal | acknowledged | refused | lost | why | broken |");
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    accounts.iter().for_each(|account| println!("{}", account.row()));
    for account in &accounts {
        account
            .broken
            .iter()
            .for_each(|why| println!("{}: {why}", account.fault.name));
    }
    let kept = accounts.iter().all(|account| account.broken.is_empty());
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Account {
    fn new(fault: &'static Fault) -> Self {
        Self {
            fault,
            verdicts: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Tries it on a scene, or a new one; returns the scene for the next one, if it is still good.
    fn strike(&mut self, runtime: &Runtime, scene: Option<Scene>) -> Option<Scene> {
        let tried = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let scene = match scene {
                    Some(scene) => scene,
                    None => Scene::new().await?,
                };
                let verdict = self.fault.strike(&scene).await;
                Some((scene, verdict))
            })
        }));
        let Ok(tried) = tried else {
            self.broken.push("it was not whole again in time: see above".to_owned());
            return None;
        };
        let (scene, verdict) = tried?;
        println!("{verdict}");
        let good = verdict.broken.is_empty();
        self.broken.extend(verdict.broken.iter().map(Broken::to_string));
        self.verdicts.push(verdict);
        good.then_some(scene)
    }

    /// A row of the table.
    fn row(&self) -> String {
        let mut gaps: Vec<Duration> = self.verdicts.iter().map(|verdict| verdict.gap).collect();
        gaps.sort_unstable();
        let sum = |count: fn(&Verdict) -> usize| self.verdicts.iter().map(count).sum::<usize>();
        let lost = sum(|verdict| verdict.lost);
        let [p50, p90, p99, longest] = [50, 90, 99, 100].map(|percent| {
            // The least that so many of a hundred are not above.
            let place = (gaps.len() * percent).div_ceil(100).max(1) - 1;
            gaps.get(place).map_or_else(|| "-".to_owned(), |gap| seconds(*gap))
        });
        format!(
            "| {} | {} | {p50} | {p90} | {p99} | {longest} | {} | {} | {} | {lost} | {} | {} |",
            self.fault.name.replace('_', " "),
            gaps.len(),
            seconds(self.fault.promise.goal),
            sum(|verdict| verdict.acknowledged),
            sum(|verdict| verdict.refused),
            self.why_lost(lost),
            self.broken.len(),
        )
    }

    /// Why so many writes are lost: as promised, or else it stands below the table.
    fn why_lost(&self, lost: usize) -> &'static str {
        let is_broken = |verdict: &Verdict| verdict.broken.iter().any(|what| matches!(what, Broken::Lost(_)));
        match lost {
            0 => "",
            _ if self.verdicts.iter().any(is_broken) => "see below",
            _ => self.fault.promise.loss.why(),
        }
    }
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        ms @ 0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn moment() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock");
    since.as_secs()
}

/// Numbers that a seed gives again (xorshift64, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}
