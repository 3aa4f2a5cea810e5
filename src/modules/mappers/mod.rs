//! Family `modules/mappers`.
