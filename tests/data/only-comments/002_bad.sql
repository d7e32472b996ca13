-- to be written
/* one day */
