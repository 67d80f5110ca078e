//! Authorities and certificates that live for a test.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::broker::program;

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new(program("openssl"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {errors}");
}

const KEY: [&str; 6] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
    "-batch",
];

/// `<name>.pem` and `<name>.key`.
pub fn authority(folder: &Path, name: &str) {
    let (key, pem) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN=authority {name}");
    let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", &subject];
    arguments.extend(KEY);
    arguments.extend(["-keyout", &key, "-out", &pem]);
    openssl(folder, &arguments);
}

/// `<name>.pem` and `<name>.key`, for `names` and so many days, from the authority `ca`.
pub fn certificate(folder: &Path, name: &str, names: &str, days: &str) {
    let [key, request, pem] = ["key", "csr", "pem"].map(|end| format!("{name}.{end}"));
    let mut arguments = vec!["req", "-new", "-subj", "/CN=test"];
    arguments.extend(KEY);
    arguments.extend(["-keyout", &key, "-out", &request]);
    openssl(folder, &arguments);
    fs::write(folder.join("names"), format!("subjectAltName={names}\n")).unwrap();
    let sign = [
        "x509",
        "-req",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-extfile",
        "names",
        "-days",
        days,
        "-in",
        &request,
        "-out",
        &pem,
    ];
    openssl(folder, &sign);
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(folder.join(key), private).unwrap();
}
