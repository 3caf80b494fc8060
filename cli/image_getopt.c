/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The loop over the options that all commands of `breakwater image` share, and the values that
 * several of them take. Each command has a table of its own, for qemu-img's letters mean something
 * else in each.
 */
#include "cli/image_getopt.h"

#include <errno.h>
#include <string.h>

#include "base/bytes.h"

static void does_not_belong(const struct image_options *t, int c, const char *command,
                            struct err **errp)
{
    for (const struct option *o = t->long_options; o->name; o++)
        if (o->val == c) {
            err_set(errp, EINVAL, "option '--%s' does not belong to %s", o->name, command);
            return;
        }
    err_set(errp, EINVAL, "option '-%c' does not belong to %s", c, command);
}

/* Options for images that are not files, or are encrypted. */
static bool only_in_qemu(const char *word)
{
    static const char *const names[] = {"--image-opts", "--target-image-opts", "--object"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strncmp(word, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

int image_getopt(int argc, char **argv, const struct image_options *t, struct image_job *job,
                 struct err **errp)
{
    int c, at = 1;
    optind = 1;
    opterr = 0;
    while ((c = getopt_long(argc, argv, t->letters, t->long_options, NULL)) != -1) {
        /* Of letters in one word, all but the last leave optind where it is. */
        const char *word = argv[optind > at ? optind - 1 : at];
        at = optind;
        if (c == 'h')
            return image_help() == IMAGE_OK ? 0 : -1;
        if (c == ':')
            err_set(errp, EINVAL, "option '%s' needs a value", word);
        else if (c == '?' && only_in_qemu(word))
            err_set(errp, ENOTSUP,
                    "option '%s' is qemu-img's and not supported: an image is a file and its "
                    "format (-f)",
                    word);
        else if (c == '?')
            err_set(errp, EINVAL, "option '%s' is not known", word);
        else if (t->taken && !strchr(t->taken, c))
            does_not_belong(t, c, job->cmd->name, errp);
        else if (t->take(c, optarg, job, errp))
            continue;
        return -1;
    }
    return 1;
}

bool image_take_output(bool *json, const char *text, struct err **errp)
{
    *json = strcmp(text, "json") == 0;
    return *json || strcmp(text, "human") == 0 ||
           err_set(errp, EINVAL, "--output: '%s' is not known; it is human or json", text);
}

bool image_take_cache(struct image_cache *c, const char *text, const char *option,
                      struct err **errp)
{
    static const struct {
        const char *name;
        struct image_cache c;
    } modes[] = {
        {"none", {true, false}},          {"writeback", {false, false}},
        {"writethrough", {false, false}}, {"directsync", {true, false}},
        {"unsafe", {false, true}},
    };
    for (size_t i = 0; i < ARRAY_LEN(modes); i++)
        if (strcmp(text, modes[i].name) == 0) {
            *c = modes[i].c;
            return true;
        }
    return err_set(errp, EINVAL,
                   "%s: '%s' is not known; it is none, writeback, writethrough, directsync or "
                   "unsafe",
                   option, text);
}

static const char *const preallocation_names[] = {
    [QC_PREALLOC_OFF] = "off",
    [QC_PREALLOC_METADATA] = "metadata",
    [QC_PREALLOC_FALLOC] = "falloc",
    [QC_PREALLOC_FULL] = "full",
};

const char *image_preallocation_name(enum qc_preallocation mode)
{
    return preallocation_names[mode];
}

bool image_take_preallocation(enum qc_preallocation *mode, const char *text, const char *option,
                              struct err **errp)
{
    for (unsigned i = 0; i < ARRAY_LEN(preallocation_names); i++)
        if (strcmp(text, preallocation_names[i]) == 0) {
            *mode = (enum qc_preallocation)i;
            return true;
        }
    return err_set(errp, EINVAL, "%s: '%s' is not known; it is off, metadata, falloc or full",
                   option, text);
}
