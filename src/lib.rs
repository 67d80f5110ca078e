//! captiond: an on-device image captioner.
//!
//! The rooms follow the way of the data, left to right:
//!
//! frame ([`source`], [`frame`]) -> embedding ([`embedding`], run by [`engine`]) ->
//! realigned ([`realignment`]) -> retrieved ([`datastore`]) -> caption and confidence
//! ([`caption`], joined in [`captioner`]) -> published ([`publish`], driven by [`daemon`]).
//!
//! What a chain is made of comes from a model pack ([`pack`]); [`fit`] makes the realignment
//! offline. The method is ReCap ("Linear Alignment of Vision-language Models for Image
//! Captioning", arXiv 2307.05591).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod captioner;
pub mod cli;
pub mod daemon;
pub mod publish;
pub mod source;
