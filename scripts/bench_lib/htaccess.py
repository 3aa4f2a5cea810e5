"""A tree with a .htaccess file, for the servers that read one."""

import os

from bench_lib import servers
from bench_lib.load import rounds

# What WordPress writes with permalinks on, leading to a page.
WORDPRESS = """# BEGIN WordPress
<IfModule mod_rewrite.c>
RewriteEngine On
RewriteRule .* - [E=HTTP_AUTHORIZATION:%{HTTP:Authorization}]
RewriteBase /
RewriteRule ^index\\.html$ - [L]
RewriteCond %{REQUEST_FILENAME} !-f
RewriteCond %{REQUEST_FILENAME} !-d
RewriteRule . /index.html [L]
</IfModule>
# END WordPress
"""

# What sites say to caches and browsers.
CACHING = """ExpiresActive On
ExpiresDefault "access plus 1 month"
ExpiresByType text/html "access plus 10 minutes"
Header set X-Content-Type-Options nosniff
Header always set Referrer-Policy strict-origin-when-cross-origin
<FilesMatch "\\.(css|js|png)$">
Header set Cache-Control "public, max-age=31536000, immutable"
</FilesMatch>
"""


def load(bench, load_, text=WORDPRESS):
    """That load on each server that reads .htaccess files, in a tree of its own with this one at its root."""
    root = os.path.join(bench.work, "htaccess")
    deep = os.path.join(root, "wp-content/uploads/2026/11/23/a")
    os.makedirs(deep, exist_ok=True)
    for folder in (root, deep):
        for name in ("index.html", "1k.html"):
            with open(os.path.join(folder, name), "wb") as file:
                file.write(b"x" * 1023 + b"\n")
            # A file that has just changed may change again without a trace in its times.
            os.utime(os.path.join(folder, name), (1_700_000_000, 1_700_000_000))
    with open(os.path.join(root, ".htaccess"), "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(bench.work, 0o755)
    site = servers.Site(modules=("rewrite", "headers", "expires"), override="All", root=root)
    with bench.running(site, names=[name for name in bench.names if servers.reads_apache(name)]) as contestants:
        return rounds(bench, contestants, load_)
