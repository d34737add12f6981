//! Every kind of cookie that the builder makes, each at a host of its own.

use axum::Router;
use cloakroom::SameSite;

use crate::jar::{Kept, PartitionKey};
use crate::shop::{self, Choose};

pub(crate) struct Configuration {
    pub(crate) choose: Choose,
    pub(crate) host: &'static str,
    /// What the paths of its pages begin with.
    pub(crate) below: &'static str,
    pub(crate) name: &'static str,
    /// As the browser says it: with a dot, it is of the subdomains, too.
    pub(crate) domain: &'static str,
    pub(crate) path: &'static str,
    pub(crate) same_site: &'static str,
    pub(crate) is_secure: bool,
    pub(crate) is_http_only: bool,
    pub(crate) is_partitioned: bool,
}

/// The defaults.
pub(crate) const STRICTEST: Configuration = Configuration {
    choose: |b| b,
    host: "app.shop.test",
    below: "",
    name: "__Host-Http-id",
    domain: "app.shop.test",
    path: "/",
    same_site: "Lax",
    is_secure: true,
    is_http_only: true,
    is_partitioned: false,
};

pub(crate) const STRICT: Configuration = Configuration {
    choose: |b| b.same_site(SameSite::Strict),
    host: "strict.shop.test",
    domain: "strict.shop.test",
    same_site: "Strict",
    ..STRICTEST
};

pub(crate) const NONE: Configuration = Configuration {
    choose: |b| b.same_site(SameSite::None),
    host: "none.shop.test",
    domain: "none.shop.test",
    same_site: "None",
    ..STRICTEST
};

pub(crate) const PARTITIONED: Configuration = Configuration {
    choose: |b| b.same_site(SameSite::None).partitioned(),
    host: "partitioned.shop.test",
    domain: "partitioned.shop.test",
    same_site: "None",
    is_partitioned: true,
    ..STRICTEST
};

pub(crate) const OF_A_PATH: Configuration = Configuration {
    choose: |b| b.path("/app"),
    host: "path.shop.test",
    below: "/app",
    name: "__Secure-id",
    domain: "path.shop.test",
    path: "/app",
    ..STRICTEST
};

pub(crate) const READABLE: Configuration = Configuration {
    choose: |b| b.insecure_readable_by_scripts(),
    host: "readable.shop.test",
    name: "__Host-id",
    domain: "readable.shop.test",
    is_http_only: false,
    ..STRICTEST
};

pub(crate) const FOR_DEVELOPMENT: Configuration = Configuration {
    choose: |b| b.insecure_for_development(),
    host: "development.shop.test",
    name: "id",
    domain: "development.shop.test",
    is_secure: false,
    ..STRICTEST
};

pub(crate) const OF_A_DOMAIN: Configuration = Configuration {
    choose: |b| b.domain("shared.test"),
    host: "app.shared.test",
    name: "__Secure-id",
    domain: ".shared.test",
    ..STRICTEST
};

pub(crate) const OF_A_DOMAIN_AND_PATH: Configuration = Configuration {
    choose: |b| {
        b.cookie_name("sid")
            .domain("shared.test")
            .path("/app")
            .insecure_for_development()
            .insecure_readable_by_scripts()
    },
    host: "both.shared.test",
    below: "/app",
    name: "sid",
    domain: ".shared.test",
    path: "/app",
    is_secure: false,
    is_http_only: false,
    ..STRICTEST
};

pub(crate) const ALL: [Configuration; 9] = [
    STRICTEST,
    STRICT,
    NONE,
    PARTITIONED,
    OF_A_PATH,
    READABLE,
    FOR_DEVELOPMENT,
    OF_A_DOMAIN,
    OF_A_DOMAIN_AND_PATH,
];

impl Configuration {
    pub(crate) fn site(&self) -> (&'static str, Router) {
        (self.host, shop::shop(self.choose))
    }

    /// The pages that log alice in. Whether the cookie is to stay when the browser ends has nothing to do with the
    /// other attributes, so one cookie is enough for that.
    pub(crate) fn logins(&self) -> &'static [&'static str] {
        match self.host == STRICTEST.host {
            true => &["/login/alice", "/remember/alice"],
            false => &["/login/alice"],
        }
    }

    pub(crate) fn path_of(&self, page: &str) -> String {
        format!("{}{page}", self.below)
    }

    pub(crate) fn url(&self, page: &str) -> String {
        format!("https://{}{}", self.host, self.path_of(page))
    }

    /// What the browser should keep.
    pub(crate) fn kept(&self, value: &str, ends_with_browser: bool) -> Kept {
        let top_level_site = || format!("https://{}", self.domain.split_once('.').unwrap().1);
        Kept {
            name: self.name.into(),
            value: value.into(),
            domain: self.domain.into(),
            path: self.path.into(),
            http_only: self.is_http_only,
            secure: self.is_secure,
            same_site: Some(self.same_site.into()),
            session: ends_with_browser,
            partition_key: self.is_partitioned.then(|| PartitionKey {
                top_level_site: top_level_site(),
            }),
        }
    }
}
