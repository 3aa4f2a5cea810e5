//! Family `modules/loggers`.
