// The border between Rust and libtorch, which no C++ exception crosses.
//
// A function that can fail returns nullptr, or a message that the caller frees with `free`. A tensor crosses as the
// `at::Tensor*` that tch holds, and the caller keeps it.
#pragma once

#include <cstring>
#include <exception>

namespace memsys {

template <class Work>
char* guarded(Work&& work) noexcept {
  try {
    work();
    return nullptr;
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an unknown C++ exception");
  }
}

}  // namespace memsys
