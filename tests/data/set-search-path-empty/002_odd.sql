SELECT pg_catalog.set_config('search_path', '', false);
INSERT INTO public.one VALUES (1);
