// SPDX-License-Identifier: Apache-2.0
#include "labelled.h"

#include <c10/util/Exception.h>

#include "veomni/comm/communicator.h"
#include "veomni/comm/rank_scope.h"

namespace veomni {

std::string message_of(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  } catch (const std::exception& e) {
    return e.what();
  } catch (...) {
    return "failed with something that is not an exception";
  }
}

void rethrow_labelled(const std::exception_ptr& error, int rank, int size) {
  const std::string label = size == 1 ? "" : rank_label(rank, size);
  std::string message = message_of(error);
  // Messages of VEOMNI_CHECK carry the rank already.
  if (!message.starts_with(label)) message.insert(0, label);
  try {
    std::rethrow_exception(error);
  } catch (const AbortedError&) {
    throw AbortedError(message);
  } catch (const ConfigError&) {
    throw ConfigError(message);
  } catch (...) {
    throw Error(message);
  }
}

}  // namespace veomni
