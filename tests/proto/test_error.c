/* Error codes: that the table speaks of the right codes. */
#include "proto/error.h"

#include <criterion/criterion.h>
#include <string.h>

Test(error, has_a_name_and_a_sentence_for_each_code)
{
    for (int16_t code = -1; code <= 133; code++) {
        enum kafka_error error = (enum kafka_error)code;
        cr_assert(kafka_error_known(code));
        cr_assert_gt(strlen(kafka_error_name(error)), 3);
        cr_assert_null(strchr(kafka_error_name(error), ' '));
        const char *message = kafka_error_message(error);
        cr_assert_eq(message[strlen(message) - 1], '.', "%s", message);
    }
}

Test(error, gives_no_two_codes_one_name)
{
    for (int16_t a = -1; a <= 133; a++)
        for (int16_t b = -1; b < a; b++)
            cr_assert_str_neq(kafka_error_name((enum kafka_error)a),
                              kafka_error_name((enum kafka_error)b));
}

Test(error, keeps_rows_and_numbers_together)
{
    cr_assert_str_eq(kafka_error_name(KE_UNKNOWN_SERVER_ERROR), "UNKNOWN_SERVER_ERROR");
    cr_assert_str_eq(kafka_error_name((enum kafka_error)1), "OFFSET_OUT_OF_RANGE");
    cr_assert_str_eq(kafka_error_name((enum kafka_error)42), "INVALID_REQUEST");
    cr_assert_str_eq(kafka_error_name((enum kafka_error)56), "KAFKA_STORAGE_ERROR");
    cr_assert_str_eq(kafka_error_name((enum kafka_error)87), "INVALID_RECORD");
    cr_assert_str_eq(kafka_error_name((enum kafka_error)133), "SHARE_SESSION_LIMIT_REACHED");
}

Test(error, takes_an_unknown_code_for_a_server_error)
{
    cr_assert(!kafka_error_known(-2));
    cr_assert(!kafka_error_known(134));
    cr_assert_str_eq(kafka_error_name((enum kafka_error)134), "UNKNOWN_SERVER_ERROR");
    cr_assert_str_eq(kafka_error_name((enum kafka_error) - 2), "UNKNOWN_SERVER_ERROR");
    cr_assert(!kafka_error_retriable((enum kafka_error)134));
}

Test(error, says_retry_for_as_many_codes_as_kafka_s_client)
{
    int retriable = 0;
    for (int16_t code = -1; code <= 133; code++)
        retriable += kafka_error_retriable((enum kafka_error)code);
    cr_assert_eq(retriable, 32);
    cr_assert(kafka_error_retriable(KE_NOT_LEADER_OR_FOLLOWER));
    cr_assert(kafka_error_retriable(KE_REQUEST_TIMED_OUT));
    cr_assert(!kafka_error_retriable(KE_NONE));
    cr_assert(!kafka_error_retriable(KE_INVALID_RECORD));
    cr_assert(!kafka_error_retriable(KE_MESSAGE_TOO_LARGE));
}
