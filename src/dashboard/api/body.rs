use axum::body::Body;
use futures::StreamExt;
use serde::de::DeserializeOwned;

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

/// Reads a body as a JSON object of this type. An empty one is the default.
///
/// # Errors
/// When it is anything else; the refusal names the field.
pub(crate) async fn parse<T: DeserializeOwned + Default>(body: Body) -> Result<T, Refusal> {
    let bytes = read(body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    let refuse = |reason: String| Refusal(format!("the body can't be read: {reason}"));
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(refuse("it has to be a JSON object".to_owned()));
    }
    serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))
}
