//! Redis's protocol, versions 2 and 3.

use crate::message::{Batch, Op, Reply, Span};
use crate::server::Server;
use crate::session::{Next, Output, Parsed};

/// One connection's state.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Resp {}

impl Resp {
    /// See [`Session::parse`](crate::session::Session::parse).
    pub(super) fn parse(&mut self, _batch: &mut Batch, input: Span, _server: &Server) -> Parsed {
        Parsed { consumed: input.range().len(), next: Next::Close }
    }

    /// See [`Session::resume`](crate::session::Session::resume).
    pub(super) fn resume(&mut self, _batch: &mut Batch) -> bool {
        false
    }

    /// See [`Session::has_more`](crate::session::Session::has_more).
    pub(super) fn has_more(&self) -> bool {
        false
    }

    /// See [`Session::take_back`](crate::session::Session::take_back).
    pub(super) fn take_back(&mut self, _first: &Op) {}

    /// See [`Session::finish_large`](crate::session::Session::finish_large).
    pub(super) fn finish_large(&mut self, _batch: &mut Batch, _head: Span, _large: u32, _server: &Server) {}

    /// See [`Session::refuse_large`](crate::session::Session::refuse_large).
    pub(super) fn refuse_large(&mut self, _batch: &mut Batch, _head: Span, _server: &Server) {}

    /// See [`Session::render`](crate::session::Session::render).
    pub(super) fn render(
        &mut self,
        _op: &Op,
        _reply: &Reply,
        _batch: &Batch,
        _server: &Server,
        _output: &mut Output,
    ) {
    }
}
