\copy one FROM /etc/passwd
