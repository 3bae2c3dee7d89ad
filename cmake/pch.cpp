// SPDX-License-Identifier: Apache-2.0
// Home of the precompiled header that every torch-using library reuses; see cmake/VeomniLibrary.cmake.
