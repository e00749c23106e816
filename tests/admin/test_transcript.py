"""The page of a thread as HTML: as written, where it stands, hits, and the JSON of a message."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from pages import token_in

from rules.ids_and_clock import sources

DAY = 86_400
HOSTILE = "</mark><script>alert(1)</script> invoice"


def make(client: FlaskClient, *contents: str, role: str = "user", **fields: Any) -> str:
    messages = [{"role": role, "content": content} | fields for content in contents[:32]]
    thread_id = str(client.post("/v1/threads", json={"messages": messages}).json["id"])
    for content in contents[32:]:
        say(client, thread_id, content)
    return thread_id


def say(client: FlaskClient, thread_id: str, content: str) -> str:
    body = {"role": "user", "content": content}
    return str(client.post(f"/v1/threads/{thread_id}/messages", json=body).json["id"])


def ids(client: FlaskClient, thread_id: str) -> list[str]:
    page = client.get(f"/admin/threads/{thread_id}.json?order=asc&limit=1000").json
    return [message["id"] for message in page["messages"]["data"]]


def show(client: FlaskClient, thread_id: str, query: str = "") -> str:
    answer = client.get(f"/admin/threads/{thread_id}{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


def shown(page: str) -> list[str]:
    return re.findall(r'<article class="message [^>]*id="(\w+)"', page)


def links(page: str) -> dict[str, str]:
    """Return the addresses of the first navigation, by name."""
    nav = re.findall(r'<nav class="where".*?</nav>', page, re.DOTALL)[0]
    found = re.findall(r'<a href="([^"]+)"[^>]*>([^<]+)</a>', nav)
    return {name: address.replace("&amp;", "&") for address, name in found}


def range_of(page: str) -> str:
    nav = re.sub("<[^>]+>", "", re.findall(r"Messages <b.*", page)[0])
    return " ".join(nav.split())


def test_a_user_is_shown_as_written_and_an_assistant_in_markdown(client: FlaskClient) -> None:
    text = "a *b*\n\tc   d <b>"
    html = '<p class="plain">a *b*\n\tc   d &lt;b&gt;</p>'
    assert html in show(client, make(client, text))
    thread_id = make(client, text, role="assistant")
    assert "a <em>b</em>" in show(client, thread_id)
    assert html in show(client, thread_id, "?view=source")


def test_the_switch_keeps_the_page_and_the_words(client: FlaskClient) -> None:
    thread_id = make(client, *"abc")
    at = ids(client, thread_id)[1]
    source = links(show(client, thread_id, f"?at={at}&q=b"))["As written"]
    page = client.get(source).text
    assert "<mark>b</mark>" in page
    assert re.search(r'aria-current="true"[^>]*>As written', page)
    back = links(page)["Rendered"]
    assert all(part in back for part in (f"at={at}", "q=b", "view=rendered", f"#{at}"))


def test_a_long_transcript_opens_at_its_end_and_says_where_it_is(client: FlaskClient) -> None:
    thread_id = make(client, *map(str, range(120)))
    every = ids(client, thread_id)
    page = show(client, thread_id)
    assert (shown(page), range_of(page)) == (every[70:], "Messages 71–120 of 120")
    assert {"First", "Earlier", "Latest"} <= links(page).keys()
    assert "Later" not in links(page)
    page = client.get(links(page)["Earlier"]).text
    assert (shown(page), range_of(page)) == (every[20:70], "Messages 21–70 of 120")
    page = client.get(links(page)["First"]).text
    assert (shown(page), range_of(page)) == (every[:50], "Messages 1–50 of 120")
    assert not {"First", "Earlier"} & links(page).keys()
    page = client.get(links(page)["Later"]).text
    assert shown(page) == every[50:100]
    page = client.get(links(page)["Latest"]).text
    assert shown(page) == every[70:]
    assert shown(client.get(links(page)["All, to print"]).text) == every


def test_a_short_transcript_says_its_range_once(client: FlaskClient) -> None:
    page = show(client, make(client, "one", "two"))
    assert range_of(page) == "Messages 1–2 of 2"
    assert page.count('<nav class="where"') == 1
    assert links(page).keys() == {"Refresh", "Rendered", "As written"}


def test_days_stand_between_messages_and_times_are_exact(client: FlaskClient) -> None:
    sources.now = lambda: 1_700_000_000
    thread_id = make(client, "first", "second")
    sources.now = lambda: 1_700_000_000 + DAY
    say(client, thread_id, "third")
    page = show(client, thread_id)
    days = re.findall(r'<p class="day"><time datetime="([^"]+)">([^<]+)<', page)
    assert days == [
        ("2023-11-14", "Tuesday 14 November 2023"),
        ("2023-11-15", "Wednesday 15 November 2023"),
    ]
    assert page.count(">22:13:20 UTC</time>") == 3


def test_metadata_is_shown_whole_in_lines_to_copy(client: FlaskClient) -> None:
    value = "<long> " * 70
    thread_id = make(client, "hi", metadata={"order": value})
    client.post(f"/v1/threads/{thread_id}", json={"metadata": {"note": value}})
    page = show(client, thread_id)
    for key in ("order", "note"):
        assert f'<span class="key">{key}</span> <span class="value">{"&lt;long&gt; " * 70}' in page
        assert f'data-copy="Copy value of {key}"' in page


def test_words_of_a_search_are_marked_and_lead_from_hit_to_hit(client: FlaskClient) -> None:
    texts = [f"{number} invoices" if number % 40 == 0 else str(number) for number in range(120)]
    thread_id = make(client, *texts)
    every = ids(client, thread_id)
    page = show(client, thread_id, f"?at={every[0]}&q=invoic*")
    assert "0 <mark>invoices</mark>" in page
    for number in (40, 80):
        [address] = re.findall(r'id="next-hit" href="([^"]+)"', page)
        assert address.endswith(f"at={every[number]}#{every[number]}")
        page = client.get(address.replace("&amp;", "&")).text
        assert every[number] in shown(page)
    assert "No later message has them." in page


def test_a_hit_beyond_the_page_is_known(client: FlaskClient) -> None:
    thread_id = make(client, "needle", *map(str, range(70)), "needle")
    every = ids(client, thread_id)
    page = show(client, thread_id, f"?at={every[0]}&q=needle")
    assert re.search(rf'data-beyond="[^"]*at={every[-1]}#', page)


@pytest.mark.parametrize("q", ["a*", '"', "", "%22", "<b>"])
def test_words_that_no_search_takes_leave_the_page_whole(client: FlaskClient, q: str) -> None:
    assert 'id="next-hit"' not in show(client, make(client, "a text"), f"?q={q}")


def test_a_long_text_with_a_hit_is_unfolded(client: FlaskClient) -> None:
    thread_id = make(client, "word " * 500 + "needle")
    assert '<details class="fold" open>' in show(client, thread_id, "?q=needle")
    assert '<details class="fold">' in show(client, thread_id)


def test_hostile_text_stays_text_with_marks_and_as_json(client: FlaskClient) -> None:
    for role in ("user", "assistant"):
        thread_id = make(client, HOSTILE, role=role, metadata={HOSTILE: HOSTILE})
        [message_id] = ids(client, thread_id)
        own = f"/admin/threads/{thread_id}/messages/{message_id}"
        pages = [show(client, thread_id, f"?q=invoice&view={v}") for v in ("source", "rendered")]
        for page in (*pages, client.get(own).text, show(client, thread_id, f"?q={HOSTILE}")):
            assert "<script>alert" not in page
        assert "<mark>invoice</mark>" in pages[0]


def test_the_json_of_a_message_is_a_page_and_a_twin(client: FlaskClient) -> None:
    thread_id = make(client, "hi", metadata={"a": "b"})
    [message_id] = ids(client, thread_id)
    own = f"/admin/threads/{thread_id}/messages/{message_id}"
    assert f'href="{own}"' in show(client, thread_id)
    page = client.get(own).text
    assert "&#34;metadata&#34;: {\n    &#34;a&#34;: &#34;b&#34;\n  }" in page
    twin = client.get(f"{own}.json")
    assert twin.json == client.get(f"/v1/threads/{thread_id}/messages/{message_id}").json
    assert client.get(f"{own}x").status_code == 404
    assert client.get(f"{own}x.json").json["error"]["type"] == "invalid_request_error"


def test_a_notice_stands_where_the_message_is(client: FlaskClient) -> None:
    thread_id = make(client, "one", "two")
    here = f"/admin/threads/{thread_id}"
    token = token_in(client.get(here).text)
    form = {"csrf_token": token, "role": "user", "content": "three"}
    answer = client.post(f"{here}/messages", data=form)
    page = client.get(answer.location).text
    assert (
        page.index('id="' + shown(page)[-1]) < page.index("Message added.") < page.index('id="end"')
    )
    assert page.count('id="status"') == 1


def test_a_page_opened_from_a_list_leads_back_to_it(client: FlaskClient) -> None:
    page = show(client, make(client, "hi"), "?list=q%3Dhi%26order%3Dasc")
    assert 'href="/admin/?q=hi&amp;order=asc">← All threads' in page


def test_without_a_script_the_page_can_be_refreshed(client: FlaskClient) -> None:
    thread_id = make(client, "hi")
    assert f'<noscript><a href="/admin/threads/{thread_id}?q=hi">' in show(
        client, thread_id, "?q=hi"
    )


@pytest.mark.parametrize(("age", "grows"), [(0, True), (3_600, True), (DAY, False), (-DAY, False)])
def test_only_a_young_age_grows(client: FlaskClient, age: int, grows: bool) -> None:
    sources.now = lambda: 1_700_000_000
    thread_id = make(client, "hi")
    sources.now = lambda: 1_700_000_000 + age
    assert (f'data-age="{age}"' in show(client, thread_id)) == grows


def test_the_list_behind_a_thread_stays_known_while_it_changes(client: FlaskClient) -> None:
    thread_id = make(client, "hi")
    here, behind = f"/admin/threads/{thread_id}", "list=q%3Dhi"
    page = show(client, thread_id, f"?{behind}")
    doomed = f"{here}/messages/{shown(page)[0]}/delete?{behind}"
    form = {"csrf_token": token_in(page), "role": "user", "content": "two"}
    for address in (f"{here}/metadata?{behind}", f"{here}/messages?{behind}", doomed):
        assert f'="{address}"' in page
        assert behind in client.post(address, data=form).location
    editing = client.get(f"{here}/metadata?{behind}").text
    assert editing.count(f'href="{here}?{behind}"') == 2
    assert behind in client.get(f"{here}/end?{behind}").location
    refused = client.post(f"{here}/messages?{behind}", data=form | {"content": ""})
    assert f'<a class="button" href="{here}?{behind}">Cancel' in refused.text
