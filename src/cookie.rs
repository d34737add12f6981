//! The session cookie: found in a request, set and removed in a response.
