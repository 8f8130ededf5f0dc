//! Steps along axes: reductions, softmax, gated halves.
