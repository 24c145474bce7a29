from batchmix.formats.display import group_names


def test_a_group_of_null_is_told_from_the_text_none() -> None:
    assert group_names({"topic": None, "level": "None"}) == ["topic is null", "level = None"]
