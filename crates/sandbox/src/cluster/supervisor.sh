# Runs one PostgreSQL server for a parent process, and ends it when told to or when the parent is gone.
#
# $1 directory of the programs   $2 the cluster's directory   $3 port   $4 what to do when the parent is gone
#
# Standard input is a pipe from the parent. A line on it is an order (fast, immediate, keep, remove); its end means
# that the parent is gone, even by SIGKILL, and $4 is carried out. Standard output is a pipe to the parent: the
# server's process id, and its end once the server and all its backends, which hold it as descriptor 3, have ended.
trap '' HUP INT TERM
"$1/postgres" -D "$2/data" -p "$3" </dev/null 3>&1 >>"$2/server.log" 2>&1 &
server=$!
echo "$server"
exec >&-
read -r order || order=$4
case $order in
immediate | remove) kill -QUIT "$server" 2>/dev/null ;;
*) kill -INT "$server" 2>/dev/null ;;
esac
wait "$server"
if [ "$order" = remove ]; then
    rm -rf "$2"
fi
