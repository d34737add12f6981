//! What a browser keeps, whichever page is open.

use serde::Deserialize;
use serde_json::json;

use crate::browser::Browser;

/// A cookie as the browser keeps it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    pub(crate) name: String,
    pub(crate) value: String,
    /// With a dot in front, it is of the subdomains, too.
    pub(crate) domain: String,
    pub(crate) path: String,
    pub(crate) http_only: bool,
    pub(crate) secure: bool,
    pub(crate) same_site: Option<String>,
    /// Whether it ends with the browser.
    pub(crate) session: bool,
    /// The site in whose pages it is sent, if it is kept apart for that.
    pub(crate) partition_key: Option<PartitionKey>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PartitionKey {
    pub(crate) top_level_site: String,
}

impl Kept {
    /// As it is sent.
    pub(crate) fn pair(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// Every cookie of the profile.
pub(crate) fn all(browser: &Browser) -> Vec<Kept> {
    let mut answer = browser.devtools("Storage.getCookies", json!({}));
    serde_json::from_value(answer["cookies"].take()).unwrap()
}

/// The only cookie of the profile.
#[track_caller]
pub(crate) fn only(browser: &Browser) -> Kept {
    let mut all = all(browser);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

pub(crate) fn clear(browser: &Browser) {
    browser.devtools("Storage.clearCookies", json!({}));
}

/// Puts a cookie into a browser that it was taken from, or into another one.
pub(crate) fn put(browser: &Browser, cookie: &Kept) {
    let Kept {
        name,
        value,
        domain,
        path,
        ..
    } = cookie;
    let cookie = json!({
        "name": name, "value": value, "domain": domain, "path": path,
        "secure": cookie.secure, "httpOnly": cookie.http_only,
    });
    browser.devtools("Storage.setCookies", json!({ "cookies": [cookie] }));
    assert_eq!(only(browser).value, *value);
}
