from openai import AzureOpenAI, OpenAI
from told import MANY, MODEL, TEXTS, refused, same, vectors


def _client(urls, path="/v1", **options):
    return OpenAI(base_url=urls["embed"] + path, api_key="none", **options)


def _vectors(answer):
    return [each.embedding for each in answer.data]


def embeddings(urls):
    return vectors(TEXTS, _vectors(_client(urls).embeddings.create(model=MODEL, input=TEXTS)))


def embeddings_as_numbers(urls):
    create = _client(urls).embeddings.create
    return vectors(TEXTS, _vectors(create(model=MODEL, input=TEXTS, encoding_format="float")))


def a_thousand_inputs_and_the_usual_model_name(urls):
    create = _client(urls).embeddings.create
    return vectors(MANY, _vectors(create(model="text-embedding-3-small", input=MANY)))


def unknown_fields_and_nulls(urls):
    more = {"input_type": "passage", "drop_params": True, "task": None, "truncate": "END"}
    create = _client(urls).embeddings.create
    return vectors(TEXTS, _vectors(create(model=MODEL, input=TEXTS, extra_body=more)))


def base_url_without_v1(urls):
    create = _client(urls, "").embeddings.create
    return vectors(TEXTS, _vectors(create(model=MODEL, input=TEXTS)))


def azure(urls):
    client = AzureOpenAI(azure_endpoint=urls["embed"], api_key="none", api_version="2024-10-21")
    return vectors(TEXTS, _vectors(client.embeddings.create(model="mine", input=TEXTS)))


def models(urls):
    return same([each.id for each in _client(urls).models.list()][:1], [MODEL])


def token_ids_are_refused(urls):
    create = _client(urls).embeddings.create
    return refused(lambda: create(model=MODEL, input=[[9906, 1917]]), "BATCHER_TOKEN_IDS", "400")


def an_empty_list_is_refused(urls):
    create = _client(urls).embeddings.create
    return refused(lambda: create(model=MODEL, input=[]), "400", "input")
