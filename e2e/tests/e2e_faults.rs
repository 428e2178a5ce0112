//! Each fault once, on one cluster under load. Each prints how long writes through the Service were held up, next to the goal;
//! fails when that was three times as long, when an acknowledged write is gone that need not be, or when a client saw an error
//! that it should not see. What took too long, was answered with an error, or did not come about, may be the machine's fault: then
//! it is tried again on a new cluster, up to three times in all, and each is printed. What was lost or read wrongly is nobody
//! else's fault.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use e2e::Verdict;
use e2e::faults::{FAULTS, Fault, Scene};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

/// The cluster that all faults are tried on, one at a time: made by the first, and anew after one that failed.
#[derive(Clone, Default)]
struct Stage(Arc<Mutex<Option<Scene>>>);

/// How often a fault is tried at most.
const TRIES: usize = 3;

impl Stage {
    fn try_out(&self, runtime: &Runtime, fault: &Fault) -> Result<(), Failed> {
        let mut tried = 1;
        loop {
            let (result, again) = match self.try_once(runtime, fault) {
                Ok(None) => return Ok(()),
                Ok(Some(verdict)) => (verdict.check().map_err(Failed::from), verdict.may_be_the_machine()),
                Err(failed) => (Err(failed), true),
            };
            match result {
                Err(failed) if again && tried < TRIES => {
                    println!("{}, try {tried}: {}", fault.name, failed.message().unwrap_or_default());
                    tried += 1;
                }
                result => return result,
            }
        }
    }

    /// What it cost; `None` where there is no cluster to try it on.
    fn try_once(&self, runtime: &Runtime, fault: &Fault) -> Result<Option<Verdict>, Failed> {
        let mut place = self.0.lock().expect("whoever failed gave it back");
        let scene = place.take();
        let tried = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let scene = match scene {
                    Some(scene) => scene,
                    None => Scene::new().await?,
                };
                let verdict = fault.strike(&scene).await;
                Some((scene, verdict))
            })
        }));
        let tried = tried.map_err(|_| Failed::from("something did not come about: see above"))?;
        let Some((scene, verdict)) = tried else {
            return Ok(None);
        };
        if verdict.broken.is_empty() {
            *place = Some(scene);
        }
        Ok(Some(verdict))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments {
        // They share a cluster.
        test_threads: Some(1),
        ..Arguments::from_args()
    };
    let runtime = Arc::new(Runtime::new().expect("a runtime"));
    let stage = Stage::default();
    let trials = FAULTS.iter().map(|fault| {
        let (runtime, stage) = (Arc::clone(&runtime), stage.clone());
        Trial::test(fault.name, move || stage.try_out(&runtime, fault))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    // What was made for them goes before the process does.
    drop(stage);
    conclusion.exit_code()
}
