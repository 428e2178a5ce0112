use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// How long a question goes without an answer before it is asked once more, in a way that may lead to another name server.
const AGAIN: Duration = Duration::from_millis(150);
/// How often at most, and how many calls for one host are under way at once. The system's resolver waits 5 seconds for a
/// name server that is lost.
const TIMES: usize = 5;
/// How many calls are under way for all hosts together.
const MOST: usize = 64;
/// From how many on nothing is asked again, so that there is room for hosts that were not asked for yet.
const MOST_BEFORE_REPEATS: usize = MOST / 2;

/// Asks the name service for a host, however long that takes; the call has to be given the answer.
pub(super) type Ask = fn(String, Call);

type Answer = Result<Vec<IpAddr>, (io::ErrorKind, String)>;

/// Questions to the name service: one is under way for each host, whoever asks meanwhile gets its answer, and the calls
/// behind all of them are bounded, because nobody can take one back: while the name service is silent they pile up.
pub(super) struct Names<A = Ask> {
    ask: A,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    hosts: HashMap<String, Host>,
    /// Calls under way.
    calls: usize,
}

struct Host {
    question: Question,
    /// Calls under way, those of former questions included.
    calls: usize,
}

struct Question {
    number: u64,
    /// How often it was asked.
    asked: usize,
    /// How many of these calls are under way.
    open: usize,
    /// When it was asked last.
    at: Instant,
    answer: watch::Sender<Option<Answer>>,
}

impl Question {
    fn new(number: u64, at: Instant) -> Self {
        Self {
            number,
            asked: 0,
            open: 0,
            at,
            answer: watch::Sender::new(None),
        }
    }
}

/// A call to the name service. Dropped without an answer it failed.
pub(super) struct Call {
    state: Arc<Mutex<State>>,
    host: String,
    question: u64,
    answer: Option<Answer>,
}

impl Call {
    /// What it brought.
    pub(super) fn answer(mut self, found: io::Result<Vec<IpAddr>>) {
        self.answer = Some(found.map_err(|error| (error.kind(), error.to_string())));
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let nobody = || Err((io::ErrorKind::Other, "nobody was asked".to_owned()));
        let answer = self.answer.take().unwrap_or_else(nobody);
        locked(&self.state).ended(&self.host, self.question, answer);
    }
}

impl<A: Fn(String, Call)> Names<A> {
    /// Nothing is under way yet.
    pub(super) fn new(ask: A) -> Self {
        Self {
            ask,
            state: Arc::default(),
        }
    }

    /// The addresses of a host: the first good answer of calls that are made one after the other while there is none, or a
    /// bad one when all of them have one.
    ///
    /// # Errors
    /// What the name service says when nobody knows the name, or nobody answered.
    pub(super) async fn find(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let mut coming = None;
        loop {
            let due = locked(&self.state).join(host, Instant::now(), &mut coming);
            if let Some(question) = due {
                let call = Call {
                    state: Arc::clone(&self.state),
                    host: host.to_owned(),
                    question,
                    answer: None,
                };
                (self.ask)(host.to_owned(), call);
            }
            tokio::select! {
                biased;
                answer = answer_of(&mut coming) => match answer {
                    Some(answer) => return answer.map_err(|(kind, text)| io::Error::new(kind, text)),
                    None => coming = None,
                },
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }
}

/// Never comes while there is no room for the question; `None` when it was waited for in vain until there was room.
async fn answer_of(coming: &mut Option<watch::Receiver<Option<Answer>>>) -> Option<Answer> {
    let Some(coming) = coming else {
        return std::future::pending().await;
    };
    let came = coming.wait_for(Option::is_some).await;
    came.ok().and_then(|answer| answer.clone())
}

impl State {
    /// Joins those who wait for a host, where that is possible. The number of the question when it is to be asked now.
    fn join(&mut self, host: &str, now: Instant, coming: &mut Option<watch::Receiver<Option<Answer>>>) -> Option<u64> {
        let due = match self.hosts.get(host) {
            None => self.calls < MOST,
            Some(Host { calls, .. }) if *calls >= TIMES => false,
            Some(Host { question, .. }) if question.asked == 0 => self.calls < MOST,
            Some(Host { question, .. }) => {
                question.asked < TIMES
                    && self.calls < MOST_BEFORE_REPEATS
                    && now.saturating_duration_since(question.at) >= AGAIN
            }
        };
        if due && !self.hosts.contains_key(host) {
            let question = Question::new(0, now);
            self.hosts.insert(host.to_owned(), Host { question, calls: 0 });
        }
        let Host { question, calls } = self.hosts.get_mut(host)?;
        coming.get_or_insert_with(|| question.answer.subscribe());
        if !due {
            return None;
        }
        self.calls += 1;
        *calls += 1;
        question.asked += 1;
        question.open += 1;
        question.at = now;
        Some(question.number)
    }

    /// A call for this question came to its end. A good answer is everybody's, whichever question it was to.
    fn ended(&mut self, host: &str, number: u64, answer: Answer) {
        self.calls -= 1;
        let Some(Host { question, calls }) = self.hosts.get_mut(host) else {
            return;
        };
        *calls -= 1;
        if question.number == number {
            question.open -= 1;
        }
        let is_over = answer.is_ok() || (question.number == number && question.open == 0);
        if is_over {
            let next = Question::new(question.number + 1, question.at);
            let answered = std::mem::replace(question, next);
            answered.answer.send_replace(Some(answer));
        }
        // Whoever waits for a question that was not asked asks it anew.
        if *calls == 0 && question.asked == 0 {
            self.hosts.remove(host);
        }
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::time::timeout;

    use super::*;

    /// What was asked and not answered.
    #[derive(Clone, Default)]
    struct Silent(Arc<Mutex<Vec<(String, Call)>>>);

    impl Silent {
        fn names(&self) -> Names<impl Fn(String, Call) + use<>> {
            let calls = Arc::clone(&self.0);
            Names::new(move |host, call| calls.lock().unwrap().push((host, call)))
        }

        fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn take(&self, place: usize) -> Call {
            self.0.lock().unwrap().remove(place).1
        }
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Whether a question that is asked now is answered before it would be asked again.
    async fn ask<A: Fn(String, Call)>(names: &Names<A>, host: &str) -> Option<io::Result<Vec<IpAddr>>> {
        timeout(AGAIN / 2, names.find(host)).await.ok()
    }

    #[tokio::test]
    async fn silent_name_service_is_asked_for_a_host_once_whoever_asks_and_however_often() {
        let silent = Silent::default();
        let names = silent.names();
        assert!(
            join_all((0..50).map(|_| ask(&names, "a")))
                .await
                .iter()
                .all(Option::is_none)
        );
        assert_eq!(silent.len(), 1, "one call for all who ask at the same time");
        let patient = (0..20).map(|_| timeout(AGAIN * 7, names.find("a")));
        join_all(patient).await;
        assert_eq!(silent.len(), TIMES, "and one more now and then, up to a bound");
        for _ in 0..200 {
            let _ = timeout(Duration::from_millis(1), names.find("a")).await;
        }
        assert_eq!(silent.len(), TIMES);
    }

    #[tokio::test]
    async fn calls_for_all_hosts_together_are_bounded_and_the_others_get_their_turn() {
        let silent = Silent::default();
        let names = silent.names();
        let hosts: Vec<_> = (0..MOST + 10).map(|number| number.to_string()).collect();
        join_all(hosts.iter().map(|host| timeout(AGAIN * 2, names.find(host)))).await;
        assert_eq!(silent.len(), MOST);
        // As soon as calls come to their end, those that waited are made.
        silent.0.lock().unwrap().truncate(MOST - 10);
        let late = &hosts[MOST];
        let answering = async {
            while !silent.0.lock().unwrap().iter().any(|(host, _)| host == late) {
                tokio::task::yield_now().await;
            }
            let place = silent.0.lock().unwrap().iter().position(|(host, _)| host == late);
            silent.take(place.unwrap()).answer(Ok(vec![ip(1)]));
        };
        let (found, ()) = tokio::join!(names.find(late), answering);
        assert_eq!(found.unwrap(), [ip(1)]);
        silent.0.lock().unwrap().clear();
        let state = locked(&names.state);
        assert_eq!((state.calls, state.hosts.len()), (0, 0), "nothing is left behind");
    }

    #[tokio::test]
    async fn question_that_is_lost_is_asked_again_and_its_answer_is_everybodys() {
        let silent = Silent::default();
        let names = silent.names();
        let answering = async {
            while silent.len() < 3 {
                tokio::task::yield_now().await;
            }
            silent.take(2).answer(Ok(vec![ip(3)]));
        };
        let (one, two, ()) = tokio::join!(names.find("a"), names.find("a"), answering);
        assert_eq!((one.unwrap(), two.unwrap()), (vec![ip(3)], vec![ip(3)]));
        // What is still under way says nothing of the next question, unless it brings an address.
        assert!(ask(&names, "a").await.is_none());
        assert_eq!(silent.len(), 3, "the next one is asked at once");
        drop(silent.take(0));
        let answering = async {
            tokio::task::yield_now().await;
            silent.take(0).answer(Ok(vec![ip(4)]));
        };
        let (found, ()) = tokio::join!(names.find("a"), answering);
        assert_eq!(found.unwrap(), [ip(4)]);
    }

    #[tokio::test]
    async fn name_that_nobody_knows_is_not_asked_for_again() {
        let calls = Arc::new(Mutex::new(0));
        let counted = Arc::clone(&calls);
        let names = Names::new(move |_, call: Call| {
            *counted.lock().unwrap() += 1;
            call.answer(Err(io::Error::other("no such host")));
        });
        let error = names.find("a").await.unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), *calls.lock().unwrap()),
            ("no such host", 1)
        );
    }

    #[tokio::test]
    async fn call_that_could_not_be_made_fails_the_question() {
        let names = Names::new(|_, call| drop(call));
        assert!(names.find("a").await.is_err());
    }
}
