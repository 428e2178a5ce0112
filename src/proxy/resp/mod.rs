//! The Redis protocol: requests of clients, boundaries of servers' replies, and replies of the proxy's own.

mod inline;
mod reply;
mod request;
mod rest;
mod write;

pub(crate) use reply::{ReplyError, ReplyScanner, bulk, elements, integer};
pub(crate) use request::{Limits, Request, RequestParser, Step, decimal};
pub(crate) use rest::RequestRest;
pub(crate) use write::{
    Protocol, begin_map, put_array, put_bulk, put_error, put_integer, put_null, put_null_array, put_push, put_request,
    put_simple,
};
