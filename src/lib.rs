//! captiond: an on-device image captioner.
//!
//! The rooms follow the way of the data, left to right:
//!
//! frame ([`source`], [`frame`]) -> embedding ([`embedding`], run by [`engine`] on [`kernels`]) ->
//! realigned ([`realignment`]) -> retrieved ([`datastore`]) -> spoken by a [`decoder`] -> caption and
//! confidence ([`caption`], joined in [`captioner`]) -> published ([`publish`], [`speech`], a page with the feature
//! `web`, driven by [`daemon`]).
//!
//! What a chain is made of comes from a model pack ([`pack`]); [`fit`] makes the realignment
//! offline and [`eval`] measures it. The method is ReCap ("Linear Alignment of Vision-language
//! Models for Image Captioning", arXiv 2307.05591).
// Not `forbid`: mapping a datastore file (`datastore::FileBytes::map`) and the integer products' instructions
// (`kernels::dot`) are the two exceptions.
#![deny(unsafe_code)]
#![warn(missing_docs)]

// On the device, in the order of the data.
pub mod source;

pub mod frame;

pub mod kernels;

pub mod engine;

pub mod embedding;

pub mod realignment;

pub mod datastore;

pub mod decoder;

pub mod caption;

pub mod captioner;

pub mod publish;

pub mod speech;

#[cfg(feature = "web")]
pub mod web;

pub mod daemon;

// What the chain is made of, and how it is made and measured.
pub mod pack;
pub mod tensor_file;

pub mod fit;

pub mod eval;

pub mod cli;
