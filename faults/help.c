/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The actions and keys of [fault] sections as lists, for those who ask and for documentation.
 */
#include "faults/fault_priv.h"

bool fault_key_help(unsigned i, struct fault_help *out)
{
    struct out o = {out->goes_with, sizeof(out->goes_with), 0};

    if (i >= FK_COUNT)
        return false;
    *out = (struct fault_help){fault_keys[i].name, fault_keys[i].value, fault_keys[i].text, ""};
    for (unsigned a = 0; a < ACTION_COUNT; a++)
        if (fault_keys[i].actions & (1u << a))
            out_put(&o, "%s%s", o.used ? "," : "", fault_actions[a].name);
    return true;
}

bool fault_action_help(unsigned i, struct fault_help *out)
{
    struct out o = {out->goes_with, sizeof(out->goes_with), 0};

    if (i >= ACTION_COUNT)
        return false;
    *out = (struct fault_help){fault_actions[i].name, "", fault_actions[i].text, ""};
    out_words(&o, fault_actions[i].ops, fault_op_names, FAULT_IO_COUNT);
    return true;
}
