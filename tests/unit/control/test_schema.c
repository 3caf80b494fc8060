/* SPDX-License-Identifier: BSD-3-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "control/schema.h"

static const struct qtype t_colour = {
    .kind = Q_ENUM, .name = "Colour", .values = Q_NAMES("red", "green")};
static const struct qtype t_point = {.kind = Q_STRUCT,
                                     .name = "Point",
                                     .member =
                                         Q_MEMBERS({"x", &q_int, false}, {"y", &q_uint32, true})};
static const struct qtype t_points = {.kind = Q_LIST, .name = "PointList", .element = &t_point};
static const struct qtype t_ref = {
    .kind = Q_ALT,
    .name = "PointRef",
    .member = Q_MEMBERS({"definition", &t_point, false}, {"reference", &q_str, false})};
static const struct qtype t_disc = {
    .kind = Q_STRUCT, .name = "Disc", .member = Q_MEMBERS({"radius", &q_size, false})};
static const struct qtype t_shape_kind = {
    .kind = Q_ENUM, .name = "ShapeKind", .values = Q_NAMES("disc", "dot")};
static const struct qtype t_shape = {
    .kind = Q_UNION,
    .name = "Shape",
    .member =
        Q_MEMBERS({"kind", &t_shape_kind, false}, {"colour", &t_colour, true}, {"at", &t_ref, true},
                  {"corners", &t_points, true}, {"solid", &q_bool, true}),
    .tag = "kind",
    .variant = (const struct qvariant[]){{"disc", &t_disc}, {"dot", NULL}, {0}}};

static void check(const char *text, bool from_text, const char *want)
{
    json_t *v = json_loads(text, 0, NULL);
    struct err *e = NULL;
    bool ok = schema_check(&t_shape, "", from_text, &v, &e);

    if (want[0] == '{') {
        json_t *w = json_loads(want, 0, NULL);

        if (!ok)
            fail_msg("%s: %s", text, err_msg(e));
        assert_true(json_equal(v, w));
        json_decref(w);
    } else {
        assert_false(ok);
        assert_string_equal(err_msg(e), want);
    }
    err_free(e);
    json_decref(v);
}

static void what_is_right_passes_unchanged(void **state)
{
    static const char *const good[] = {
        "{\"kind\":\"dot\"}",
        "{\"kind\":\"disc\",\"radius\":5,\"at\":\"origin\"}",
        "{\"kind\":\"dot\",\"at\":{\"x\":-1,\"y\":4294967295},\"solid\":false}",
        "{\"kind\":\"dot\",\"corners\":[{\"x\":1},{\"x\":2}]}",
    };

    for (unsigned i = 0; i < 4; i++)
        check(good[i], false, good[i]);
}

static void mistakes_have_the_texts_of_qemu(void **state)
{
    check("{}", false, "Parameter 'kind' is missing");
    check("{\"kind\":1}", false, "Invalid parameter type for 'kind', expected: string");
    check("{\"kind\":\"cube\"}", false, "Parameter 'kind' does not accept value 'cube'");
    check("{\"kind\":\"disc\"}", false, "Parameter 'radius' is missing");
    check("{\"kind\":\"dot\",\"radius\":1}", false, "Parameter 'radius' is unexpected");
    check("{\"kind\":\"disc\",\"radius\":true}", false,
          "Invalid parameter type for 'radius', expected: integer");
    check("{\"kind\":\"disc\",\"radius\":-1}", false, "Parameter 'radius' expects size");
    check("{\"kind\":\"dot\",\"at\":{\"x\":1,\"y\":-1}}", false, "Parameter 'y' expects uint32_t");
    check("{\"kind\":\"dot\",\"at\":7}", false,
          "Invalid parameter type for 'at', expected: PointRef");
    check("{\"kind\":\"dot\",\"at\":{\"y\":1}}", false, "Parameter 'at.x' is missing");
    check("{\"kind\":\"dot\",\"corners\":[{\"x\":1},{\"z\":1}]}", false,
          "Parameter 'corners[1].x' is missing");
    check("{\"kind\":\"dot\",\"corners\":{}}", false,
          "Invalid parameter type for 'corners', expected: array");
    check("{\"kind\":\"dot\",\"solid\":\"on\"}", false,
          "Invalid parameter type for 'solid', expected: boolean");
}

static void text_becomes_what_the_type_wants(void **state)
{
    check("{\"kind\":\"disc\",\"radius\":\"64k\",\"solid\":\"on\"}", true,
          "{\"kind\":\"disc\",\"radius\":65536,\"solid\":true}");
    check("{\"kind\":\"dot\",\"at\":{\"x\":\"-3\"}}", true, "{\"kind\":\"dot\",\"at\":{\"x\":-3}}");
    check("{\"kind\":\"dot\",\"at\":\"7\"}", true, "{\"kind\":\"dot\",\"at\":\"7\"}");
    check("{\"kind\":\"dot\",\"corners\":[{\"x\":\"1\"}]}", true,
          "{\"kind\":\"dot\",\"corners\":[{\"x\":1}]}");
    check("{\"kind\":\"disc\",\"radius\":\"big\"}", true,
          "Parameter 'radius' expects a number, not 'big'");
    check("{\"kind\":\"dot\",\"solid\":\"maybe\"}", true,
          "Parameter 'solid' expects 'on' or 'off'");
    /* In JSON a text is no number. */
    check("{\"kind\":\"disc\",\"radius\":\"64k\"}", false,
          "Invalid parameter type for 'radius', expected: integer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_right_passes_unchanged),
        cmocka_unit_test(mistakes_have_the_texts_of_qemu),
        cmocka_unit_test(text_becomes_what_the_type_wants),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
