/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What every fuzz target defines. Bytes of any kind must not make it crash, leak or hang.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
