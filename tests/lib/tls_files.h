/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Certificates and keys for tests, as `breakwater tls init` makes them.
 */
#ifndef TESTS_LIB_TLS_FILES_H
#define TESTS_LIB_TLS_FILES_H

#include <stdint.h>

/* Two authorities that know nothing of each other, and the key of the user "qemu" of the first. The
 * users are "alice" and "qemu", the client's certificate is for "a client". */
extern char tls_dir[64], tls_other_dir[64];
extern uint8_t tls_key[64];
extern unsigned tls_key_len;

/* For cmocka_run_group_tests. */
int tls_files_make(void **state);
int tls_files_remove(void **state);
/* tls_file: "folder/name", good for the next 7 calls. tls_remove_dir: with the files in it. */
const char *tls_file(const char *folder, const char *name);
void tls_remove_dir(const char *folder);

#endif
