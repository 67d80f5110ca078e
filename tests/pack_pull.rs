//! `captiond pack pull` against servers that break off, lie, and send what is wrong.

mod support;
#[path = "support/tiny.rs"]
mod tiny;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use captiond::pack::digest;
use support::{
    certificates::{authority, certificate},
    http::Server,
    site::{How, proxy_to, range, site, tls_before},
    until,
};
use tempfile::TempDir;
use tiny::{Captiond, copy, edit, folder, put};

const PROXIES: [&str; 8] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "NO_PROXY",
    "no_proxy",
];

/// A pack to be served, and a folder to install into.
struct Bench {
    served: TempDir,
    work: TempDir,
}

impl Bench {
    fn new() -> Self {
        let served = copy(&folder("convnet"));
        // What a pack that was published has, and the tiny ones have not.
        for file in ["image.onnx", "text.onnx", "tokenizer.json"] {
            let hash = digest::of_file(&served.path().join(file)).unwrap();
            let size = fs::metadata(served.path().join(file)).unwrap().len();
            let from = format!("sha256 = \"{hash}\"\n");
            edit(served.path(), &from, &format!("{from}size = {size}\n"));
        }
        Self {
            served,
            work: tempfile::tempdir().unwrap(),
        }
    }

    fn without_sizes(self) -> Self {
        let path = self.served.path().join("pack.toml");
        let text = fs::read_to_string(&path).unwrap();
        let kept: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with("size = ") || l.contains('['))
            .collect();
        fs::write(path, kept.join("\n")).unwrap();
        self
    }

    fn size(&self, file: &str) -> usize {
        fs::read(self.served.path().join(file)).unwrap().len()
    }

    fn to(&self) -> PathBuf {
        self.work.path().join("pack")
    }

    /// Where parts lie while they are coming.
    fn part(&self, file: &str) -> PathBuf {
        let hash = digest::of_file(&self.served.path().join(file)).unwrap();
        self.work
            .path()
            .join(format!(".pack.pull/parts/{hash}.part"))
    }

    /// An older pack in the place, and its files' hashes.
    fn install_old(&self) -> Vec<(String, String)> {
        let to = self.to();
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(folder("siglip")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
        hashes(&to)
    }

    fn pull(&self, url: &str) -> Captiond {
        Captiond::new(&["pack", "pull", url])
            .without(&PROXIES)
            .path("--to", self.to())
    }

    fn serve(&self, how: impl Fn(&str, usize) -> How + Send + Sync + 'static) -> Server {
        site(self.served.path(), how)
    }

    /// All of the pack is in its place, and no more; nothing is left beside it.
    fn assert_installed(&self) {
        let listed = ["image.onnx", "pack.toml", "text.onnx", "tokenizer.json"];
        let found = hashes(&self.to());
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, listed);
        for (name, hash) in &found {
            let served = digest::of_file(&self.served.path().join(name)).unwrap();
            assert_eq!(*hash, served, "{name}");
        }
        assert!(!self.work.path().join(".pack.pull").exists());
    }
}

fn hashes(pack: &Path) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = fs::read_dir(pack)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, digest::of_file(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

/// Requests for a file, as the bytes that they begin at.
fn asked(server: &Server, file: &str) -> Vec<Option<usize>> {
    let requests = server.requests();
    let of_file = requests
        .iter()
        .filter(|r| r.starts_with(&format!("GET /{file} ")));
    of_file.map(|request| range(request)).collect()
}

fn right(_: &str, _: usize) -> How {
    How::Right
}

#[test]
fn a_pack_is_fetched_checked_and_put_into_its_place() {
    let bench = Bench::new();
    let server = bench.serve(right);
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
    assert_eq!(server.requests().len(), 4);
    let said = Captiond::new(&["pack", "verify"]).arg(bench.to()).succeed();
    assert!(said.contains("The pack is right."), "{said}");
    // The folder's URL does it too; nothing is fetched that is here already.
    let again = bench.pull(&server.url("")).output();
    assert!(again.status.success());
    let errors = String::from_utf8(again.stderr).unwrap();
    assert!(errors.contains("image.onnx: here already"), "{errors}");
    assert_eq!(server.requests().len(), 5);
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    for bench in [Bench::new(), Bench::new().without_sizes()] {
        let half = bench.size("image.onnx") / 2;
        let server = bench.serve(move |path, before| match (path, before) {
            ("image.onnx", 0) => How::Cut(half),
            ("image.onnx", 1) => How::Cut(10),
            _ => How::Right,
        });
        bench.pull(&server.url("/pack.toml")).succeed();
        bench.assert_installed();
        let found = asked(&server, "image.onnx");
        assert_eq!(found, [None, Some(half), Some(half + 10)]);
    }
}

#[test]
fn a_pull_that_is_killed_goes_on_with_the_next_and_the_old_pack_stays_till_then() {
    let bench = Bench::new();
    let old = bench.install_old();
    let half = bench.size("image.onnx") / 2;
    let server = bench.serve(move |path, before| match (path, before) {
        ("image.onnx", 0) => How::Silent(half),
        _ => How::Right,
    });
    let mut child = bench.pull(&server.url("/pack.toml")).spawn();
    until("half of the file", || {
        let length = fs::metadata(bench.part("image.onnx")).ok()?.len();
        (length == half as u64).then_some(())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(hashes(&bench.to()), old);
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
    assert_eq!(asked(&server, "image.onnx"), [None, Some(half)]);
    // The old one is beside it.
    assert_eq!(hashes(&bench.work.path().join("pack.old")), old);
}

#[test]
fn a_server_that_ignores_range_is_asked_for_the_whole() {
    let bench = Bench::new();
    let half = bench.size("image.onnx") / 2;
    let server = bench.serve(move |path, before| match (path, before) {
        ("image.onnx", 0) => How::Cut(half),
        ("image.onnx", _) => How::Whole(usize::MAX),
        _ => How::Right,
    });
    let output = bench.pull(&server.url("/pack.toml")).output();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("from the beginning"), "{errors}");
    bench.assert_installed();
}

#[test]
fn a_server_that_gets_no_further_is_given_up_and_what_came_is_kept() {
    let bench = Bench::new();
    let old = bench.install_old();
    let half = bench.size("image.onnx") / 2;
    let server = bench.serve(move |path, _| match path {
        "image.onnx" => How::Whole(half),
        _ => How::Right,
    });
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    for part in ["image.onnx", "tried 5 times", "is kept", "the same command"] {
        assert!(errors.contains(part), "{part:?} is not in: {errors}");
    }
    assert_eq!(hashes(&bench.to()), old);
    let kept = fs::metadata(bench.part("image.onnx")).unwrap().len();
    assert_eq!(kept, half as u64);
    let whole = bench.serve(right);
    bench.pull(&whole.url("/pack.toml")).succeed();
    bench.assert_installed();
    assert_eq!(asked(&whole, "image.onnx"), [Some(half)]);
}

#[test]
fn a_server_that_lies_about_the_length_does_no_harm() {
    // The manifest knows better.
    for wrong in [-1, 1] {
        let bench = Bench::new();
        let claimed = bench.size("image.onnx").saturating_add_signed(wrong);
        let server = bench.serve(move |path, _| match path {
            "image.onnx" => How::Claims(claimed),
            _ => How::Right,
        });
        let errors = bench.pull(&server.url("/pack.toml")).fail();
        let expected = format!(
            "image.onnx: size: found {claimed} bytes, expected {}",
            bench.size("image.onnx")
        );
        assert!(errors.contains(&expected), "{errors}");
        assert!(!bench.to().exists());
    }
    // It doesn't: too few bytes have another hash.
    let bench = Bench::new().without_sizes();
    let fewer = bench.size("image.onnx") - 1;
    let server = bench.serve(move |path, _| match path {
        "image.onnx" => How::Claims(fewer),
        _ => How::Right,
    });
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    assert!(errors.contains("image.onnx: sha256: found"), "{errors}");
    assert!(!bench.to().exists());
    // More than there are never come; the server says so when asked for the rest, and the hash decides.
    let bench = Bench::new().without_sizes();
    let more = bench.size("image.onnx") + 100;
    let server = bench.serve(move |path, before| match (path, before) {
        ("image.onnx", 0) => How::Claims(more),
        _ => How::Right,
    });
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
}

#[test]
fn a_body_without_an_end_is_cut_off() {
    let bench = Bench::new();
    let server = bench.serve(move |path, _| match path {
        "image.onnx" => How::Endless,
        _ => How::Right,
    });
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    assert!(errors.contains("image.onnx: size: found"), "{errors}");
    let kept = fs::metadata(bench.part("image.onnx")).unwrap().len();
    assert_eq!(kept, 0, "what is known to be wrong is not kept");
    let server = bench.serve(move |_, _| How::Endless);
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    assert!(errors.contains("that is no pack.toml"), "{errors}");
}

#[test]
fn wrong_bytes_are_never_installed() {
    let bench = Bench::new();
    let old = bench.install_old();
    let mut wrong = fs::read(bench.served.path().join("text.onnx")).unwrap();
    wrong[100] ^= 1;
    let hash = digest::of_bytes(&wrong);
    let server = bench.serve(move |path, _| match path {
        "text.onnx" => How::Other(wrong.clone()),
        _ => How::Right,
    });
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    let expected = format!("text.onnx: sha256: found {hash}");
    assert!(errors.contains(&expected), "{errors}");
    assert!(errors.contains("tell whoever publishes it"), "{errors}");
    assert_eq!(hashes(&bench.to()), old);
    assert!(!bench.part("text.onnx").exists());
    // The files that were right are not fetched again.
    let server = bench.serve(right);
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
    assert!(asked(&server, "image.onnx").is_empty());
    assert_eq!(asked(&server, "text.onnx"), [None]);
}

#[test]
fn a_part_of_another_file_is_found_out_and_fetched_anew() {
    let bench = Bench::new();
    let half = bench.size("image.onnx") / 2;
    let part = bench.part("image.onnx");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![7; half]).unwrap();
    let server = bench.serve(right);
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
    assert_eq!(asked(&server, "image.onnx"), [Some(half), None]);
    // A server that continues at another place than it says is not believed either.
    let bench = Bench::new();
    let part = bench.part("image.onnx");
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    fs::write(&part, vec![7; half]).unwrap();
    let server = bench.serve(move |path, before| match (path, before) {
        ("image.onnx", 0) => How::Elsewhere,
        _ => How::Right,
    });
    bench.pull(&server.url("/pack.toml")).succeed();
    bench.assert_installed();
}

#[test]
fn names_that_lead_out_of_the_folder_are_refused() {
    for name in [
        "../loot",
        "/tmp/loot",
        "sub/../../loot",
        "a//b",
        "./a",
        "pack.toml",
    ] {
        let bench = Bench::new();
        let entry = format!(
            "\n[files.{name:?}]\nsha256 = \"{}\"\nlicence = \"MIT\"\nprovenance = \"x\"\n",
            "0".repeat(64)
        );
        let path = bench.served.path().join("pack.toml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text + &entry).unwrap();
        let server = bench.serve(right);
        let errors = bench.pull(&server.url("/pack.toml")).fail();
        assert!(errors.contains("pack.toml: files: found"), "{errors}");
        assert!(errors.contains(name), "{errors}");
        // Nothing but the manifest was asked for.
        assert_eq!(server.requests().len(), 1);
        assert!(!bench.work.path().join("loot").exists() && !bench.to().exists());
    }
}

#[test]
fn a_pack_that_comes_whole_and_does_not_work_is_not_installed() {
    let bench = Bench::new();
    let old = bench.install_old();
    let bytes = b"this is no network";
    let size = format!("size = {}\n", bench.size("image.onnx"));
    put(bench.served.path(), "image.onnx", bytes);
    edit(
        bench.served.path(),
        &size,
        &format!("size = {}\n", bytes.len()),
    );
    let server = bench.serve(right);
    let output = bench.pull(&server.url("/pack.toml")).output();
    assert_eq!(output.status.code(), Some(2));
    let (said, errors) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(said.contains("PROBLEM  image.onnx: network"), "{said}");
    assert!(errors.contains("is not installed"), "{errors}");
    assert_eq!(hashes(&bench.to()), old);
    bench
        .pull(&server.url("/pack.toml"))
        .arg("--no-self-test")
        .succeed();
    bench.assert_installed();
    assert!(asked(&server, "text.onnx").len() == 1, "fetched twice");
}

#[test]
fn a_pinned_manifest_is_the_only_one_that_is_taken() {
    let bench = Bench::new();
    let server = bench.serve(right);
    let hash = digest::of_file(&bench.served.path().join("pack.toml")).unwrap();
    let pinned = |hash: &str| {
        bench
            .pull(&server.url("/pack.toml"))
            .args(&["--sha256", hash])
    };
    let errors = pinned(&"0".repeat(64)).fail();
    assert!(errors.contains("pack.toml: sha256: found"), "{errors}");
    assert!(pinned("abc").fail().contains("64 hexadecimal digits"));
    assert!(!bench.to().exists());
    pinned(&hash.to_uppercase()).succeed();
    bench.assert_installed();
}

#[test]
fn one_at_a_time_and_only_into_a_pack_s_place() {
    let bench = Bench::new();
    let server = bench.serve(right);
    let place = bench.work.path().join(".pack.pull");
    fs::create_dir(&place).unwrap();
    let lock = File::create(place.join("lock")).unwrap();
    lock.lock().unwrap();
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    assert!(errors.contains("another `captiond pack pull`"), "{errors}");
    drop(lock);
    fs::create_dir(bench.to()).unwrap();
    fs::write(bench.to().join("diary"), "dear diary").unwrap();
    let errors = bench.pull(&server.url("/pack.toml")).fail();
    assert!(errors.contains("no pack.toml"), "{errors}");
    assert!(bench.to().join("diary").exists());
}

#[test]
fn what_the_net_says_no_to_is_explained() {
    let bench = Bench::new();
    let url = |how: fn() -> How| bench.serve(move |_, _| how()).url("/pack.toml");
    let closed = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        listener.local_addr().unwrap().port()
    };
    for (url, parts) in [
        (
            "http://models.invalid/pack.toml".to_owned(),
            ["plain http", "--insecure-http"],
        ),
        (
            "https://models.invalid/pack.toml".to_owned(),
            ["is this machine online?", "HTTPS_PROXY"],
        ),
        (
            "models/pack.toml".to_owned(),
            ["models/pack.toml", "https://"],
        ),
        (
            format!("http://127.0.0.1:{closed}/pack.toml"),
            ["nobody accepts connections", "HTTPS_PROXY"],
        ),
        (
            url(|| How::Status("404 Not Found")),
            ["HTTP status 404", "correct the URL"],
        ),
        (
            url(|| How::Status("401 Unauthorized")),
            ["HTTP status 401", "no login"],
        ),
        (
            url(|| How::Redirect("http://models.invalid/pack.toml".into())),
            ["where it redirects to", "pack.toml"],
        ),
        (
            url(|| How::Redirect("/pack.toml".into())),
            ["too many redirects", "correct the URL"],
        ),
        (
            url(|| How::Other(b"<html>captive portal</html>".into())),
            ["pack.toml:1", "pack"],
        ),
    ] {
        let errors = bench.pull(&url).fail();
        for part in parts {
            assert!(errors.contains(part), "{url}: {part:?} is not in: {errors}");
        }
    }
    assert!(!bench.to().exists());
}

#[test]
fn the_query_goes_with_every_file_and_into_no_message() {
    let bench = Bench::new();
    let server = bench.serve(right);
    bench.pull(&server.url("/pack.toml?key=secret")).succeed();
    assert!(server.requests().iter().all(|r| r.contains("?key=secret ")));
    let refusing = bench.serve(|_, _| How::Status("403 Forbidden"));
    let errors = bench.pull(&refusing.url("/pack.toml?key=secret")).fail();
    assert!(
        errors.contains("403") && !errors.contains("secret"),
        "{errors}"
    );
}

#[test]
fn https_with_the_systems_authorities_and_through_a_proxy() {
    let keys = tempfile::tempdir().unwrap();
    authority(keys.path(), "ca");
    certificate(keys.path(), "server", "DNS:models.test,DNS:localhost", "2");
    let bench = Bench::new();
    let server = bench.serve(right);
    let port = tls_before(keys.path(), "server", server.port);
    let ca = keys.path().join("ca.pem");
    let url = format!("https://localhost:{port}/pack.toml");
    // Nobody vouches for it.
    authority(keys.path(), "other");
    let errors = bench
        .pull(&url)
        .variable("SSL_CERT_FILE", keys.path().join("other.pem"))
        .fail();
    assert!(errors.contains("certificate is not believed"), "{errors}");
    // Vouched for, but as somebody else.
    let errors = bench
        .pull(&format!("https://127.0.0.1:{port}/pack.toml"))
        .variable("SSL_CERT_FILE", &ca)
        .fail();
    assert!(errors.contains("certificate is not believed"), "{errors}");
    bench.pull(&url).variable("SSL_CERT_FILE", &ca).succeed();
    bench.assert_installed();
    // A name that only the proxy can reach.
    let bench = Bench::new();
    let proxy = proxy_to(port);
    bench
        .pull("https://models.test/pack.toml")
        .variable("SSL_CERT_FILE", &ca)
        .variable("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port))
        .succeed();
    bench.assert_installed();
    assert!(proxy.requests()[0].starts_with("CONNECT models.test:443 "));
    // From https to plain http there is no redirect.
    let away = bench.serve(|_, _| How::Redirect("http://localhost/pack.toml".into()));
    let port = tls_before(keys.path(), "server", away.port);
    let errors = bench
        .pull(&format!("https://localhost:{port}/pack.toml"))
        .variable("SSL_CERT_FILE", &ca)
        .fail();
    assert!(errors.contains("which is plain http"), "{errors}");
}

#[test]
fn a_proxy_that_refuses_or_is_none_is_named() {
    let bench = Bench::new();
    let url = "https://models.test/pack.toml";
    let refusing = bench.serve(|_, _| How::Status("407 Proxy Authentication Required"));
    let errors = bench
        .pull(url)
        .variable("HTTPS_PROXY", refusing.url(""))
        .fail();
    for part in ["HTTPS_PROXY", "407"] {
        assert!(errors.contains(part), "{part:?} is not in: {errors}");
    }
    let errors = bench
        .pull(url)
        .variable("ALL_PROXY", "http://me:secret@[")
        .fail();
    assert!(
        errors.contains("ALL_PROXY") && errors.contains("is no proxy"),
        "{errors}"
    );
    assert!(!errors.contains("secret"), "{errors}");
}
