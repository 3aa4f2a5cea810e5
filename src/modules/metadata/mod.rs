//! Family `modules/metadata`.
