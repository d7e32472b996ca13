INSERT INTO one SELECT 1; -- \ \\ \n \u0041 \' ' '' " \" :x :'x' $$ $1 	   é   😀 ퟿ %s {x}
