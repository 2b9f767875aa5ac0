/* What a topic may be called: Kafka's rules, which keep names usable as folders. */
#include "broker/api/names.h"

#define TOPIC_NAME_MAX 249

static bool letter_legal(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '.' || ch == '_' || ch == '-';
}

bool topic_name_valid(struct wire_string name)
{
    if (name.size <= 0 || name.size > TOPIC_NAME_MAX)
        return false;
    for (int32_t i = 0; i < name.size; i++) {
        if (!letter_legal(name.data[i]))
            return false;
    }
    return !wire_string_equal(name, wire_string_of(".")) &&
           !wire_string_equal(name, wire_string_of(".."));
}

bool topic_name_internal(struct wire_string name)
{
    return wire_string_equal(name, wire_string_of("__consumer_offsets")) ||
           wire_string_equal(name, wire_string_of("__transaction_state")) ||
           wire_string_equal(name, wire_string_of("__share_group_state"));
}
