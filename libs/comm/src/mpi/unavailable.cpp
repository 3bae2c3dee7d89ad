// SPDX-License-Identifier: Apache-2.0
// Linked instead of the MPI backend in a build without it.
#include "veomni/comm/mpi.h"

namespace veomni {

namespace {

[[noreturn]] void refuse(const char* backend) {
  throw_config_error(detail::concat("this build has no MPI, which comm.backend=", backend,
                                    " needs; install libopenmpi-dev and openmpi-bin and build "
                                    "again, or take local or shm"));
}

}  // namespace

bool has_mpi() { return false; }
std::shared_ptr<Communicator> make_mpi_world(const MpiOptions&) { refuse("mpi"); }
std::shared_ptr<Communicator> make_hierarchical_world(const HierarchicalOptions&) {
  refuse("hierarchical");
}
void finalize_mpi() {}

}  // namespace veomni
