//! The video source through the real nokhwa and V4L2 code, against an emulated device
//! (`tests/emulated_v4l2`): a camera that can be unplugged, stalled and damaged.
#![cfg(feature = "camera")]

mod support;

use std::time::Duration;

use support::camera::{BY_ID, Setup};
use support::process::be_the_daemon;
use support::until;

#[test]
fn the_daemon_as_a_child() {
    be_the_daemon();
}

#[test]
fn frames_of_a_camera_arrive() {
    let setup = Setup::start("MJPG", "run");
    let caption = setup.subscriber.wait_for_caption(320);
    assert_eq!(caption.json()["origin"], BY_ID);
    setup.subscriber.wait_for_caption(400);
    let log = setup.end();
    assert!(!log.contains("frame skipped"), "{log}");
}

#[test]
fn a_camera_without_mjpeg_is_converted() {
    let setup = Setup::start("YUYV", "run");
    setup.subscriber.wait_for_caption(64);
    setup.end();
}

#[test]
fn of_both_formats_one_is_agreed_on() {
    let setup = Setup::start("BOTH", "run");
    // The wanted 640 is nearest to 400 x 24, which is on offer as MJPEG only.
    setup.subscriber.wait_for_caption(320);
    setup.end();
}

#[test]
fn after_a_replug_under_another_number_it_goes_on() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("unplug");
    let line = setup.daemon.wait_for_log("no frames");
    assert!(line.contains(BY_ID), "{line}");
    // While it's away the name leads nowhere.
    setup.daemon.wait_for_log("is the camera plugged in?");
    setup.steer("replug /dev/video9");
    setup.wait_for_more_captions();
    setup.daemon.wait_for_log("camera state: lost");
    let log = setup.end();
    // Backed off, not a million attempts a second.
    assert!(log.lines().count() < 40, "{log}");
}

#[test]
fn a_camera_that_stalls_does_not_hold_up_the_end() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("stall");
    // Until nothing comes any more.
    let mut last = setup.captions();
    until("no more captions", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = setup.captions();
        (std::mem::replace(&mut last, now) == now).then_some(())
    });
    setup.end();
}

#[test]
fn truncated_frames_are_skipped_until_whole_ones_come() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    setup.steer("truncate");
    let line = setup.daemon.wait_for_log("frame skipped");
    assert!(line.contains("JPEG"), "{line}");
    setup.steer("run again");
    setup.wait_for_more_captions();
    setup.end();
}

#[test]
fn corrupt_frames_are_lived_through() {
    let setup = Setup::start("MJPG", "run");
    setup.subscriber.wait_for_caption(320);
    for word in ["corrupt", "truncate-stale"] {
        setup.steer(word);
        // Whether such a frame decodes is the decoder's affair; here it must do no harm.
        std::thread::sleep(Duration::from_millis(300));
    }
    setup.steer("run again");
    setup.wait_for_more_captions();
    setup.end();
}

#[test]
fn a_camera_in_use_is_told_and_taken_when_it_is_free() {
    let setup = Setup::start("MJPG", "busy");
    setup
        .daemon
        .wait_for_log("another program is using the camera");
    setup.steer("run");
    setup.subscriber.wait_for_caption(320);
    setup.end();
}
