//! What a browser keeps of a site, and is told to throw away.

use http::HeaderValue;

/// What a browser keeps of a site besides the session
/// ([`clear_site_data_at_logout`](crate::SessionLayerBuilder::clear_site_data_at_logout)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiteData {
    /// The responses of this origin in the browser's cache.
    Cache,
    /// All cookies of the registrable domain, those of its other hosts included.
    Cookies,
    /// What scripts of this origin have stored: `localStorage`, IndexedDB, service workers and the like.
    Storage,
}

impl SiteData {
    /// The value of `Clear-Site-Data` for these (W3C Clear Site Data §3.1), each once; `None` for nothing.
    pub(crate) fn header(data: &[Self]) -> Option<HeaderValue> {
        let all = [
            (Self::Cache, "\"cache\""),
            (Self::Cookies, "\"cookies\""),
            (Self::Storage, "\"storage\""),
        ];
        let chosen = all.into_iter().filter(|(kind, _)| data.contains(kind));
        let names: Vec<_> = chosen.map(|(_, name)| name).collect();
        let value = (!names.is_empty()).then(|| names.join(", "))?;
        HeaderValue::try_from(value).ok()
    }
}
