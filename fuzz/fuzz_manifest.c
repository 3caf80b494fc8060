/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Manifests of backups. What is accepted is written again and must be read as the same.
 */
#include <stdlib.h>
#include <string.h>

#include "backup-client/manifest.h"
#include "base/mem.h"
#include "fuzz/fuzz.h"

static void write_again(const struct manifest *m)
{
    struct manifest again;
    char *text = manifest_format(m);
    if (!text || !manifest_parse(text, strlen(text), "again", &again, NULL))
        abort();
    char *twice = manifest_format(&again);
    if (!twice || strcmp(text, twice) != 0)
        abort();
    mem_free(text);
    mem_free(twice);
    manifest_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct manifest m;
    struct err *e = NULL;
    if (manifest_parse((const char *)data, size, "fuzz", &m, &e)) {
        write_again(&m);
        manifest_free(&m);
    } else if (!strstr(err_msg(e), "fuzz")) {
        abort(); /* refused without naming the file */
    }
    err_free(e);
    return 0;
}
