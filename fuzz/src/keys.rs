use std::time::Duration;

use crate::proxy::command::{Found, Patience, Plan, StreamRead, table};
use crate::proxy::resp::{Limits, Request, RequestParser, Step};

/// A command in a line: whatever its arguments are, its keys are among them.
pub fn keys(line: &[u8]) {
    let line = [line, b"\n"].concat();
    let mut parser = RequestParser::default();
    let Ok(Step::Done(len)) = parser.parse(&line, Limits::AUTHENTICATED) else {
        return;
    };
    let request = parser.request(&line, len);
    let Found::Known(container) = table().find(request.arg(0)) else {
        return;
    };
    let command = match container.plan {
        Plan::Container => container.subcommand(request.arg(1)).unwrap_or(container),
        _ => container,
    };
    // Others are refused before anybody looks for keys.
    if !command.takes(request.len()) {
        return;
    }
    let mut places = Vec::new();
    for spec in &command.keys {
        let _ = spec.places(&request, &mut places);
    }
    assert!(
        places.iter().all(|place| (1..request.len()).contains(place)),
        "{places:?}"
    );
    match command.plan {
        Plan::Key(place) => assert!(usize::from(place) < request.len()),
        Plan::Blocking(at) => wait(Patience::seconds(at, &request), &request),
        Plan::StreamRead => streams(&request),
        _ => {}
    }
}

fn streams(request: &Request<'_>) {
    let read = StreamRead::of(request);
    let ends = read.read_from_end(request);
    let StreamRead::Streams { keys, block } = read else {
        return;
    };
    assert!(!keys.is_empty() && keys.end + keys.len() == request.len(), "{keys:?}");
    assert!(
        ends.iter().all(|(key, id)| keys.contains(key) && *id < request.len()),
        "{ends:?}"
    );
    if let Some(place) = block {
        assert!(place < keys.start);
        wait(Patience::millis(place), request);
    }
}

/// What is left of a wait can be said anew, and is read back.
fn wait(patience: Patience, request: &Request<'_>) {
    let Some(time) = patience.read(request) else { return };
    let mut args: Vec<_> = request.args_from(0).map(<[u8]>::to_vec).collect();
    patience.rewrite(&mut args, time.min(Duration::from_secs(1)));
    assert_eq!(args.len(), request.len());
}
