use axum::body::Body;
use futures::StreamExt;

use crate::dashboard::rules::Refusal;

/// The largest body that is read; the whole slot map is a tenth of it.
const MAX_BODY: usize = 1 << 20;

/// Reads a body. One that is too large is read to its end all the same, within reason: who is still sending would not see
/// the answer.
///
/// # Errors
/// When it is too large, or ends early.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, Refusal> {
    let (mut stream, mut kept, mut size) = (body.into_data_stream(), Vec::new(), 0);
    while size < 32 * MAX_BODY
        && let Some(part) = stream.next().await
    {
        let part = part.map_err(|error| Refusal(format!("the body can't be read: {error}")))?;
        size += part.len();
        if size <= MAX_BODY {
            kept.extend_from_slice(&part);
        }
    }
    if size > MAX_BODY {
        Err(Refusal(format!("the body is larger than {MAX_BODY} bytes")))
    } else {
        Ok(kept)
    }
}
