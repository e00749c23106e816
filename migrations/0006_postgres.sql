-- Words are what FTS5 takes for words on SQLite: runs of letters and digits, in any case and without
-- accents. A tsvector holds 1 MiB: of a text with more words, the first are found. Each search reads
-- the whole list of words that are not yet indexed, so it is kept short.
CREATE FUNCTION message_words(words text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(
    regexp_replace(
        normalize(lower(words COLLATE "und-x-icu"), NFD), '[\u0300-\u036F]+', '', 'g'),
    '[^[:alnum:]]+', ' ', 'g');

CREATE FUNCTION message_query(q text) RETURNS tsquery LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(
        nullif(phraseto_tsquery('simple', message_words(phrase))::text, ''), ' & ')::tsquery
    FROM unnest(string_to_array(q, '"')) AS phrase);

CREATE FUNCTION message_vector(content text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    words text := message_words(string_agg(part -> 'text' ->> 'value', ' '))
        FROM json_array_elements(content::json) AS part WHERE part ->> 'type' = 'text';
BEGIN
    RETURN to_tsvector('simple', words);
EXCEPTION WHEN program_limit_exceeded THEN
    RETURN to_tsvector('simple', left(words, 100000));
END $$;

ALTER TABLE messages ADD COLUMN message_text tsvector
    GENERATED ALWAYS AS (message_vector(content)) STORED;
CREATE INDEX message_text_words ON messages USING gin (message_text)
    WITH (gin_pending_list_limit = 64);

CREATE FUNCTION keep_pairs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM thread_metadata USING json_each_text(OLD.metadata::json) AS pair
        WHERE project = OLD.project AND thread_metadata.key = pair.key
            AND thread_metadata.value = pair.value
            AND created_at = OLD.created_at AND thread_seq = OLD.seq;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO thread_metadata (project, key, value, created_at, thread_seq)
        SELECT NEW.project, key, value, NEW.created_at, NEW.seq
        FROM json_each_text(NEW.metadata::json);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER threads_metadata AFTER INSERT OR UPDATE OF metadata OR DELETE ON threads
    FOR EACH ROW EXECUTE FUNCTION keep_pairs();
