// How many threads an operation computes with.

#include <ATen/Parallel.h>

#include "border.h"

extern "C" {

// For this thread, and for every other from its first operation on.
char* memsys_set_threads(int n_threads) {
  return memsys::guarded([&] { at::set_num_threads(n_threads); });
}

// Of this thread.
char* memsys_threads(int* n_threads) {
  return memsys::guarded([&] { *n_threads = at::get_num_threads(); });
}
}
