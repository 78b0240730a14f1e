"""What the rules of the data stages mean, a few words each, for whoever reads a ledger or a report.

A rule that is not listed is shown by its name alone; the rule itself lives in its stage.
"""

MEANINGS = {
    # what ingest says of files
    "binary_file": "the file is no text",
    "compressed_torn": "the compressed file breaks off",
    "compression_bomb": "the compressed file unpacks to far more than a source may",
    "csv_header": "the first line names no usable columns",
    "empty_file": "the file has no bytes",
    "parquet_torn": "the Parquet file is damaged",
    "unreadable_file": "the file cannot be read",
    "utf16_file": "the file is in UTF-16, not UTF-8",
    # what ingest says of rows
    "bad_keys": "a turn has keys that the layout does not know",
    "bad_length": "parts that belong together differ in number",
    "bad_tool_call": "a tool call is not well formed",
    "bad_tool_call_id": "a tool's answer belongs to no call",
    "bad_tools": "the list of tools is not well formed",
    "blank_line": "the line is blank",
    "column_count": "more or fewer cells than the header has columns",
    "csv_syntax": "a quote is not closed",
    "empty": "a column that must say something is blank",
    "invalid_utf8": "a byte that is no UTF-8",
    "json_duplicate_key": "a key comes twice",
    "json_non_finite": "a number that is not finite",
    "json_syntax": "not valid JSON",
    "json_too_deep": "nested too deeply",
    "json_value": "a value that JSON does not allow",
    "label_unknown": "a label that the layout does not allow",
    "layout_unknown": "columns of no known layout",
    "line_too_long": "longer than a row may be",
    "lone_surrogate": "half of a character",
    "missing_column": "a column that the layout needs is not there",
    "not_an_object": "a JSON value that is no object",
    "not_text": "a part that is no text, an image say",
    "nul_byte": "a NUL byte",
    "other_layout": "a row of another layout than its source",
    "too_many_columns": "more columns than a row may have",
    "unknown_field": "a field that the layout would lose",
    "unknown_role": "a speaker that the layout does not know",
    "wrong_type": "a value of another type than the layout has",
    # what clean changes
    "control_removed": "control and invisible characters were removed",
    "normalised": "equal characters were written in one way",
    "pii_masked": "personal data was masked",
    "secret_masked": "a key or token was masked",
    "special_token_escaped": "a token of the chat template was made plain text",
    "unicode_repaired": "a broken encoding was repaired",
    # what clean drops
    "boilerplate": "text that pages repeat, nobody's answer",
    "completion_too_long": "an answer longer than allowed",
    "completion_too_short": "an answer shorter than allowed",
    "empty_completion": "an answer without text",
    "empty_prompt": "a question without text",
    "language": "in a language that is not asked for",
    "missing_prompt": "a conversation without a question",
    "missing_answer": "the conversation ends without an answer",
    "not_rendered": "the chat template would lose a part of the row",
    "pii": "personal data that must not be learned",
    "prompt_too_long": "a question longer than allowed",
    "prompt_too_short": "a question shorter than allowed",
    "refusal": "the answer is a refusal",
    "repetition": "the text repeats itself",
    "role_order": "the turns are not in the order of a conversation",
    "secret": "a key or token stands in the text",
    "special_token": "a token of the chat template stands in the text",
    "too_many_tokens": "longer than the model is trained on",
    "truncated": "the text was cut by an export",
    # what dedup drops
    "conflicting_answers": "the same question with different answers",
    "duplicate_of_test": "a row of the test split is alike",
    "exact_duplicate": "the same question is there already",
    "near_duplicate": "nearly the same question is there already",
    "semantic_duplicate": "a question of the same meaning is there already",
    # what split drops
    "compared_only": "the base was trained on it; only compared with the benchmarks",
    "in_benchmark": "holds an item of a benchmark of the gate",
    "not_sampled": "left out by its source's weight",
    "replay_not_needed": "the replay share is full without it",
}


def meaning(rule: str) -> str:
    """The rule in a few words, or nothing for a rule that is not listed."""
    return MEANINGS.get(rule, "")
