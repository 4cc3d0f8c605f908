// The border between Rust and libtorch: nothing thrown in C++ crosses it.
//
// Every function returns nullptr, or a message that the caller frees with `free`. A tensor crosses as the
// `at::Tensor*` that tch holds; it stays the caller's.
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
