SET search_path = pg_temp;
INSERT INTO public.one VALUES (1);
