//! Chromium without a window, by the WebDriver protocol (W3C).

use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::example::Running;
use crate::example_client::exchange;

/// How long a page may take to show what it should.
const PATIENCE: Duration = Duration::from_secs(30);

/// What WebDriver calls a reference to an element (W3C WebDriver §12.2).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The programs that a test in a browser needs.
pub(crate) struct Programs {
    driver: PathBuf,
    browser: PathBuf,
}

impl Programs {
    /// `None` if one is missing. Then the test is left out, and says so; but where everything is to be
    /// tested, it fails.
    pub(crate) fn find() -> Option<Self> {
        let driver = in_path(&["chromedriver"]);
        let browser = in_path(&["chromium", "chromium-browser", "google-chrome"]);
        if let (Some(driver), Some(browser)) = (driver, browser) {
            return Some(Self { driver, browser });
        }
        left_out(
            "chromium and chromedriver are needed (on Debian: apt-get install chromium chromium-driver)",
        );
        None
    }
}

/// Says that tests are left out since something is missing; but where everything is to be tested, they fail.
pub(crate) fn left_out(missing: &str) {
    assert!(
        std::env::var_os("CLOAKROOM_TEST_EVERYTHING").is_none(),
        "{missing}"
    );
    // Not by a macro, whose output the test harness keeps to itself.
    let line = format!("left out: tests in a browser; {missing}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

pub(crate) fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    // Where Debian puts servers, and not everybody looks.
    folders.push("/usr/sbin".into());
    let mut candidates = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// A browser with a fresh profile. It ends with this value, and so when the test fails as well.
pub(crate) struct Browser {
    port: u16,
    session: String,
    process: u64,
    _driver: Running,
    _profile: TempDir,
}

/// How a browser is set.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// What it calls itself, if not by its name.
    pub(crate) user_agent: Option<&'static str>,
    pub(crate) without_scripts: bool,
    /// Where it finds the hosts under `test`, if anywhere.
    pub(crate) sites: Option<Sites>,
    /// Whether pages that others embed have cookies. Where it is left to the browser, not even builds of one
    /// version agree.
    pub(crate) third_party_cookies: Option<bool>,
}

/// Where the hosts under `test` are: all of them at this port of loopback, whatever port a URL has.
#[derive(Clone, Copy)]
pub(crate) struct Sites {
    pub(crate) port: u16,
    /// The SHA-256 of the public key that they have by HTTPS, in base64. A certificate of this key counts as
    /// valid, and every other one as what it is.
    pub(crate) key: &'static str,
}

impl Setting {
    /// As it comes.
    pub(crate) const PLAIN: Self = Self {
        user_agent: None,
        without_scripts: false,
        sites: None,
        third_party_cookies: None,
    };
}

impl Browser {
    pub(crate) fn start(programs: &Programs, setting: Setting) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(&programs.driver);
        let child = command.arg("--port=0").stdout(Stdio::piped()).spawn();
        let mut driver = Running(child.unwrap());
        let port = announced_port(&mut driver.0);
        let new = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {
                "binary": programs.browser,
                "args": arguments(profile.path(), setting),
                "prefs": preferences(setting),
            },
        }}});
        let new = call(port, Method::POST, "/session", &new);
        Self {
            port,
            session: new["sessionId"].as_str().unwrap().into(),
            process: new["capabilities"]["goog:processID"].as_u64().unwrap(),
            _driver: driver,
            _profile: profile,
        }
    }

    pub(crate) fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url }));
    }

    #[allow(dead_code)]
    pub(crate) fn reload(&self) {
        self.post("/refresh", json!({}));
    }

    #[allow(dead_code)]
    pub(crate) fn go_back(&self) {
        self.post("/back", json!({}));
    }

    pub(crate) fn click(&self, css: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{element}/click"), json!({}));
    }

    #[allow(dead_code)]
    pub(crate) fn type_into(&self, css: &str, text: &str) {
        let element = self.find(css);
        self.post(
            &format!("/element/{element}/value"),
            json!({ "text": text }),
        );
    }

    #[allow(dead_code)]
    pub(crate) fn clear(&self, css: &str) {
        let element = self.find(css);
        self.post(&format!("/element/{element}/clear"), json!({}));
    }

    /// What a script of the page returns, or the promise that it returns comes to.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
    }

    #[allow(dead_code)]
    pub(crate) fn leave_frames(&self) {
        self.post("/frame", json!({ "id": null }));
    }

    /// Goes into the frame that this selects.
    #[allow(dead_code)]
    pub(crate) fn enter_frame(&self, css: &str) {
        let frame = json!({ "id": { ELEMENT: self.find(css) } });
        self.post("/frame", frame);
    }

    /// What a command of the DevTools protocol answers.
    #[allow(dead_code)]
    pub(crate) fn devtools(&self, command: &str, parameters: Value) -> Value {
        let command = json!({ "cmd": command, "params": parameters });
        self.post("/goog/cdp/execute", command)
    }

    /// The cookies that the page's requests carry, those out of scripts' reach included.
    #[allow(dead_code)]
    pub(crate) fn cookies(&self) -> Vec<Value> {
        let cookies = self.call(Method::GET, "/cookie", &Value::Null);
        cookies.as_array().unwrap().clone()
    }

    /// Waits until the page shows this text.
    #[track_caller]
    pub(crate) fn assert_shows(&self, text: &str) {
        let started = Instant::now();
        loop {
            let page = self.run("return location.pathname + '\\n' + document.body.innerText");
            let page = page.as_str().unwrap();
            if page.contains(text) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{text:?} is not in {page}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn find(&self, css: &str) -> String {
        let query = json!({ "using": "css selector", "value": css });
        let element = self.post("/element", query);
        element[ELEMENT].as_str().unwrap().into()
    }

    fn post(&self, path: &str, parameters: Value) -> Value {
        self.call(Method::POST, path, &parameters)
    }

    fn call(&self, method: Method, path: &str, parameters: &Value) -> Value {
        let path = format!("/session/{}{path}", self.session);
        call(self.port, method, &path, parameters)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // In an orderly way, after which nobody writes into the profile. A panic in here is caught, since
        // one may be under way.
        let end = || self.call(Method::DELETE, "", &Value::Null);
        if catch_unwind(AssertUnwindSafe(end)).is_err() {
            // The browser is a child of the driver, which would leave it behind.
            let id = self.process.to_string();
            // If there is no `kill`, nothing more can be done.
            let _: std::io::Result<_> = Command::new("kill").args(["-KILL", &id]).status();
        }
    }
}

fn arguments(profile: &Path, setting: Setting) -> Vec<String> {
    let fixed = [
        "--headless=new",
        // Its sandbox does not work for root, as whom tests run in containers. The pages are our own.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        // What it would do by itself over the network.
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ];
    let mut arguments = fixed.map(String::from).to_vec();
    arguments.push(format!("--user-data-dir={}", profile.display()));
    let agent = setting.user_agent;
    arguments.extend(agent.map(|agent| format!("--user-agent={agent}")));
    if let Some(Sites { port, key }) = setting.sites {
        arguments.push(format!("--host-resolver-rules=MAP *.test 127.0.0.1:{port}"));
        arguments.push(format!("--ignore-certificate-errors-spki-list={key}"));
    }
    arguments
}

fn preferences(setting: Setting) -> Value {
    // What Chromium calls it where a site may run scripts, and where it may not. The driver's own run all the same.
    let scripts = if setting.without_scripts { 2 } else { 1 };
    let mut preferences = json!({
        "profile.managed_default_content_settings.javascript": scripts,
    });
    if let Some(taken) = setting.third_party_cookies {
        preferences["profile.cookie_controls_mode"] = if taken { json!(0) } else { json!(1) };
    }
    preferences
}

/// The port that the driver chose, as it says on its standard output.
fn announced_port(driver: &mut Child) -> u16 {
    let mut output = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = output.by_ref().map(Result::unwrap).find_map(|line| {
        let port = line.split("started successfully on port ").nth(1)?;
        port.trim_end_matches('.').parse().ok()
    });
    // Read on, so that the driver never waits for somebody to do so.
    thread::spawn(move || output.for_each(drop));
    port.unwrap()
}

/// Calls the driver, and checks that it could do what it was asked.
fn call(port: u16, method: Method, path: &str, parameters: &Value) -> Value {
    let body = if parameters.is_null() {
        String::new()
    } else {
        parameters.to_string()
    };
    let request = Request::builder().method(method).uri(path).body(body);
    let response = exchange(port, &request.unwrap());
    let mut answer: Value = serde_json::from_str(response.body()).unwrap();
    assert_eq!(
        response.status(),
        StatusCode::OK,
        "{path} {parameters}: {answer}"
    );
    answer["value"].take()
}
