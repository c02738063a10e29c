//! Sockets that the database asks for, TLS, and calls to clients.

use std::path::Path;

use serde_json::json;
use tokio::net::{TcpListener, UnixListener};

use crate::harness::{NB, Server, within};

/// Arguments of `openssl req` with a new key.
fn request<'a>(key: &'a str, out: &'a str, subject: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    [&new[..], &["-keyout", key, "-out", out, "-subj", subject], more].concat()
}

/// Makes an authority, and a key and certificate that it signed.
async fn certificates(server: &Server, authority: &Path) {
    let directory = server.directory.path();
    let path = |name: &str| directory.join(name).display().to_string();
    let subject = |name: &str| format!("/CN={name}");
    let authority = |name: &str| authority.join(name).display().to_string();
    let (ca_key, ca) = (authority("ca.key"), authority("ca.pem"));
    let (own, other) = (subject("authority"), subject("member"));
    let signed = ["-x509", "-days", "2", "-addext", "basicConstraints=critical,CA:TRUE"];
    server.run("openssl", &request(&ca_key, &ca, &own, &signed)).await;
    server.run("openssl", &request(&path("key.pem"), &path("request.pem"), &other, &[])).await;
    let extensions = "subjectAltName=IP:127.0.0.1";
    std::fs::write(directory.join("extensions"), extensions).unwrap();
    server
        .run(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                &path("request.pem"),
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-days",
                "1",
                "-out",
                &path("cert.pem"),
                "-extfile",
                &path("extensions"),
            ],
        )
        .await;
}

/// Where the server says that a row listens.
async fn bound_port(server: &Server, target: &str) -> String {
    within(async {
        loop {
            let status = server.nbctl(&["get", "Connection", target, "status"]).await;
            if let Some((_, rest)) = status.split_once("bound_port=\"") {
                return rest.split('"').next().unwrap().to_owned();
            }
            let mut applied = server.controller.replica().applied();
            applied.mark_unchanged();
            applied.changed().await.unwrap();
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_make_sockets_and_take_them_away() {
    let server = Server::start().await;
    server.nbctl(&["--inactivity-probe=60000", "set-connection", "ptcp:0:127.0.0.1"]).await;
    // The command line has this very target: a row of another kind proves the socket is its own.
    let socket = server.directory.path().join("row.sock");
    server.nbctl(&["set-connection", &format!("punix:{}", socket.display())]).await;
    let remote = format!("unix:{}", socket.display());
    within(async {
        while !server.try_run("ovsdb-client", &["--timeout=5", "list-dbs", &remote]).await.status.success() {}
    })
    .await;
    server.nbctl(&["del-connection"]).await;
    within(async {
        while tokio::net::UnixStream::connect(&socket).await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_asks_for_a_certificate_of_the_authority() {
    let server = Server::start().await;
    let directory = server.directory.path();
    certificates(&server, directory).await;
    let path = |name: &str| directory.join(name).display().to_string();
    let (key, certificate, authority) = (path("key.pem"), path("cert.pem"), path("ca.pem"));
    let target = "pssl:0:127.0.0.1";
    server.nbctl(&["set-ssl", &key, &certificate, &authority, "--", "set-connection", target]).await;
    let port = bound_port(&server, ".").await;
    let remote = format!("ssl:127.0.0.1:{port}");
    let files = ["-p", &key, "-c", &certificate, "-C", &authority];
    let list = server.run("ovsdb-client", &[&files[..], &["list-dbs", &remote]].concat()).await;
    assert!(list.contains(NB), "{list}");
    // A certificate of somebody else's authority.
    let other = tempfile::tempdir().unwrap();
    certificates(&server, other.path()).await;
    let arguments = [&files[..], &["--timeout=5", "list-dbs", &remote]].concat();
    assert!(!server.try_run("ovsdb-client", &arguments).await.status.success());
    server.controller.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_calls_whom_a_row_names() {
    let server = Server::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let path = server.directory.path().join("called.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let target = format!("tcp:{}", listener.local_addr().unwrap());
    server.nbctl(&["set-connection", &target, &format!("unix:{}", path.display())]).await;
    let (mut called, _) = within(listener.accept()).await.unwrap();
    _ = within(unix.accept()).await.unwrap();
    let message = json!({"id": 1, "method": "list_dbs", "params": []}).to_string();
    tokio::io::AsyncWriteExt::write_all(&mut called, message.as_bytes()).await.unwrap();
    let mut reply = [0; 64];
    let read = within(tokio::io::AsyncReadExt::read(&mut called, &mut reply)).await.unwrap();
    assert!(String::from_utf8_lossy(&reply[..read]).contains(NB));
    server.controller.stop().await;
}
