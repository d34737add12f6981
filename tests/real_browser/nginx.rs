//! nginx as a shared cache in front of an app.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::browser::{in_path, left_out};
use crate::certificate::CERTIFICATE;
use crate::example::{Running, free_port, listening};

/// A cache of one host, and how it is set.
pub(crate) struct Cache {
    pub(crate) host: &'static str,
    /// Directives for what nginx caches, besides where.
    pub(crate) directives: &'static str,
}

/// A running nginx, which ends with this value, and so when the test fails as well.
pub(crate) struct Nginx {
    pub(crate) port: u16,
    folder: TempDir,
    _process: Running,
}

impl Nginx {
    /// `None` if it is not installed. Then the test is left out, and says so; but where everything is to be tested,
    /// it fails.
    pub(crate) fn find() -> Option<PathBuf> {
        let program = in_path(&["nginx"]);
        if program.is_none() {
            left_out("nginx is needed (on Debian: apt-get install nginx-light)");
        }
        program
    }

    /// Caches in front of the app at this port.
    pub(crate) fn start(program: &Path, app: u16, caches: &[Cache]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = CERTIFICATE.pem();
        fs::write(folder.path().join("certificate.pem"), certificate).unwrap();
        fs::write(folder.path().join("key.pem"), key).unwrap();
        // Between the choice and the start, another program may take the port.
        for _ in 0..5 {
            let port = free_port();
            let config = folder.path().join("nginx.conf");
            fs::write(&config, configuration(folder.path(), port, app, caches)).unwrap();
            let mut command = Command::new(program);
            command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
            if let Some(process) = listening(&mut command, port) {
                return Self {
                    port,
                    folder,
                    _process: process,
                };
            }
        }
        let log = fs::read_to_string(folder.path().join("error.log"));
        panic!("nginx ended five times before it listened: {log:?}");
    }

    /// What it has stored for this host, header and body of each response.
    pub(crate) fn stored(&self, host: &str) -> Vec<String> {
        fn files(folder: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            entries
                .flat_map(|path| {
                    if path.is_dir() {
                        files(&path)
                    } else {
                        vec![path]
                    }
                })
                .collect()
        }
        let files = files(&self.folder.path().join(host));
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
        files.into_iter().map(text).collect()
    }
}

fn configuration(folder: &Path, port: u16, app: u16, caches: &[Cache]) -> String {
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let servers: String = caches
        .iter()
        .map(|Cache { host, directives }| {
            format!(
                "proxy_cache_path {folder}/{host} keys_zone={host}:1m use_temp_path=off;
                server {{
                    listen 127.0.0.1:{port} ssl;
                    server_name {host};
                    location / {{
                        proxy_pass http://127.0.0.1:{app};
                        proxy_set_header Host $host;
                        proxy_cache {host};
                        {directives}
                        add_header X-Cache-Status $upstream_cache_status always;
                    }}
                }}\n"
            )
        })
        .collect();
    // One process, which nothing outlives when it is killed. Its user is this one, whose folder that is.
    format!(
        "daemon off;
        master_process off;
        pid {folder}/pid;
        error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off;
            {temporary}
            ssl_certificate {folder}/certificate.pem;
            ssl_certificate_key {folder}/key.pem;
            {servers}
        }}\n"
    )
}
